"""The one place that knows `torch.library`: an op's schema, kernel, fake and vmap rule, together.

`define`/`impl` rather than `custom_op`: a third of its call overhead, and its ops work under
`torch.func.grad` and `jvp`, where those of `custom_op` ask for a `setup_context`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

NAMESPACE = "dmask"


def fragment() -> Library:
    """A library to define ops in. Its ops live as long as it does."""
    return Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def destroy(library: Library) -> None:
    """Takes all ops of a library out of PyTorch again."""
    library._destroy()  # type: ignore[no-untyped-call]


def define(
    library: Library,
    schema: str,
    *,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    floating: bool = False,
) -> None:
    """Registers one op.

    `kernel` runs on every device and sees no autograd: masks and indices have no gradient, nor have
    `floating` results, which autograd would otherwise take for differentiable. `fake` gives shape,
    dtype and device. Under `vmap` the new dimension is folded into the batch, which is
    right for every op whose batch entries do not depend on each other.
    """
    name = schema.partition("(")[0]
    qualname = f"{NAMESPACE}::{name}"
    library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    library.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(qualname, fake, lib=library)
    op = getattr(getattr(torch.ops, NAMESPACE), name).default
    if floating:
        library.impl(name, _without_gradient(op), "Autograd")  # type: ignore[no-untyped-call]
    torch.library.register_vmap(qualname, _fold_rule(op), lib=library)


_PLAIN_CPU = torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr()
_NO_MODES = torch._C._dispatch_tls_local_include_set().raw_repr()


def is_plain(attention_bias: Tensor, attention_mask: Tensor | None) -> bool:
    """Whether all that a dispatcher would do with a call is to find the kernel.

    Not so for subclasses, meta and fake tensors, under `vmap`, `grad`, tracing and dispatch modes,
    nor where autograd would have to be kept away. At decode sizes the way through the dispatcher to
    a Python kernel takes half as long as the mask.
    """
    return (
        torch._C._dispatch_keys(attention_bias).raw_repr() == _PLAIN_CPU
        and torch._C._dispatch_tls_local_include_set().raw_repr() == _NO_MODES
        and not attention_bias.requires_grad
        and (
            attention_mask is None
            or torch._C._dispatch_keys(attention_mask).raw_repr() == _PLAIN_CPU
        )
    )


def _without_gradient(op: torch._ops.OpOverload) -> Callable[..., Any]:
    def rule(*args: Any, **kwargs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args, **kwargs)

    return rule


def _fold_rule(op: torch._ops.OpOverload) -> Callable[..., Any]:
    """The vmap rule of an op with tensors `[B|1, ...]`, and perhaps their `batch_size`."""
    names = [argument.name for argument in op._schema.arguments]

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any, **kwargs: Any) -> Any:
        count = info.batch_size
        stacked = [
            _stack(value, dim, count) if isinstance(value, Tensor) else value
            for value, dim in zip(args, in_dims, strict=False)
        ]
        batches = [value.shape[1] for value in stacked if isinstance(value, Tensor)]
        batch = next((size for size in batches if size != 1), 1)
        folded = [
            _fold(value, count, batch) if isinstance(value, Tensor) else value for value in stacked
        ]
        if "batch_size" in names:
            folded[names.index("batch_size")] = count * batch
        result = op(*folded, **kwargs)
        if isinstance(result, Tensor):
            return _unfold(result, count, batch), 0
        return tuple(_unfold(each, count, batch) for each in result), (0,) * len(result)

    return rule


def _stack(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """`[count, B|1, ...]`, whether or not the tensor is mapped over."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _fold(tensor: Tensor, count: int, batch: int) -> Tensor:
    """`[count, B|1, ...]` to `[count * B, ...]`."""
    rest = tensor.shape[2:]
    return tensor.expand(count, batch, *rest).reshape(count * batch, *rest)


def _unfold(tensor: Tensor, count: int, batch: int) -> Tensor:
    """The opposite of `_fold`."""
    return tensor.reshape(count, batch, *tensor.shape[1:])
