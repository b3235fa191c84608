"""Small masks in models that Inductor compiles: the readable operations in place of the op.

A call from compiled code to a kernel in Python costs more than the few operations of a mask of
decode size. Dynamo and AOTAutograd see one opaque op per mask all the same: it is replaced when
Inductor has the whole graph before it, and can tell two things that nothing before it could. One is
how large the mask is likely to be, without a guard on it. The other is that no FlexAttention is
near: on the CPU, its kernels go wrong over captured tensors that come out of a traced scatter.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from dmask import shapes, validation
from dmask.kernels import cpu, reference
from dmask.validation import meta, optional_meta

_PASSES = "torch._inductor.fx_passes.post_grad"


def offer(op: torch._ops.OpOverload) -> None:
    """Tells Inductor of the replacement, if it is loaded: importing it takes seconds.

    To be called while an op is traced. When Inductor compiles, it is loaded before it traces.
    """
    if _PASSES in sys.modules:
        _register(op)


@cache
def _register(op: torch._ops.OpOverload) -> None:
    from torch._inductor.pattern_matcher import CallFunctionVarArgs, register_graph_pattern

    @register_graph_pattern(
        CallFunctionVarArgs(op),
        pass_dict=sys.modules[_PASSES].pass_patterns[0],
        extra_check=lambda match: _is_small(match.nodes[0]),
    )
    def replace(match: Any, *args: Any, **kwargs: Any) -> None:
        arguments = _arguments(match.nodes[0])
        names = [name for name, value in arguments.items() if isinstance(value, Node)]

        def make(*values: Any) -> Tensor:
            return _topk_mask(**{**arguments, **dict(zip(names, values, strict=True))})

        match.replace_by_example(torch.func.functionalize(make), [arguments[n] for n in names])


def _arguments(node: Node) -> dict[str, Any]:
    """The arguments of a call of an op by name, defaults included."""
    assert isinstance(node.target, torch._ops.OpOverload)
    schema = node.target._schema.arguments
    given = {**dict(zip([a.name for a in schema], node.args, strict=False)), **node.kwargs}
    return {a.name: given.get(a.name, a.default_value) for a in schema}


def _is_small(node: Node) -> bool:
    """Whether a mask is made faster, and as well, by a few operations."""
    mask, arguments = node.meta["val"], _arguments(node)
    plain = (
        arguments.get("type", "topk") == "topk"
        and arguments["tie_break"] == "torch"
        and arguments.get("block_size") in (None, 1)
    )
    sizes = [size if isinstance(size, int) else size.node.hint for size in mask.shape]
    return (
        plain
        and mask.device.type == "cpu"
        and None not in sizes
        and math.prod(sizes) <= cpu.FEW_SCORES
        and not any("flex_attention" in str(other.target) for other in node.graph.nodes)
    )


def _topk_mask(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None,
    key_len: int | None = None,
    **others: Any,
) -> Tensor:
    """What the op computes, its arguments being checked."""
    bias, mask = meta(attention_bias), optional_meta(attention_mask)
    shape = validation.mask_shape(bias, mask, key_len)
    floor = validation.floor_of(min_dtype, bias.dtype)
    aligned = shapes.align(attention_bias, attention_mask, shape)
    return reference.topk_mask(*aligned, window_size, floor, "torch")
