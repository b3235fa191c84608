"""Replaces ops in graphs that Inductor compiles, so that compiled code calls no Python.

Dynamo and AOTAutograd see one opaque op per mask. Inductor replaces it once it has the whole graph:

- On the CPU, a small mask becomes plain operations, which take less time than a call to Python.
  Only the whole graph shows the likely size of the mask, without a guard on it, and that there is
  no FlexAttention: its CPU kernels give wrong results if they capture tensors that a traced scatter
  produced.
- On CUDA, an op with fixed sizes becomes launches of its Triton kernels, which AOTInductor can
  package too. With dynamic sizes it stays an op: the sizes decide which kernels to launch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import make_fx

from dmask import compat, registry
from dmask.contracts.dispatch import FEW_SCORES, TRITON
from dmask.contracts.spec import OpSpec


def offer(spec: OpSpec, device: torch.device) -> None:
    """Registers the rewrite of an op with Inductor, unless Inductor is not loaded.

    Importing Inductor takes seconds, so this never imports it. Call this while an op is traced: if
    Inductor is the compiler, it is loaded before tracing.
    """
    if "torch._inductor.fx_passes.post_grad" in sys.modules:
        if device.type == "cpu" and spec.small is not None:
            _register(spec, _operations, _is_small)
        elif device.type == "cuda":
            _register(spec, _launches, _has_kernels)


@cache
def _register(
    spec: OpSpec,
    function: Callable[[OpSpec, dict[str, Any]], Any],
    applies: Callable[[OpSpec, Node], bool],
) -> None:
    """Replaces calls of an op to which this applies with what a function of its arguments does."""

    def check(match: Any) -> bool:
        return applies(spec, match.nodes[0])

    def rewrite(match: Any, *args: Any, **kwargs: Any) -> None:
        make, inputs = _traceable(spec, function, match.nodes[0])
        # Functional passes would remove launches, because they return nothing.
        functional = function is not _launches
        match.replace_by_example(make, inputs, run_functional_passes=functional)

    compat.rewrite_after_grad(spec.overload, check, rewrite)


def _traceable(
    spec: OpSpec, function: Callable[[OpSpec, dict[str, Any]], Any], node: Node
) -> tuple[Callable[..., Any], list[Node]]:
    """Returns a function of the nodes in the arguments of a call, and these nodes."""
    arguments = _arguments(spec, node)
    names = [name for name, value in arguments.items() if isinstance(value, Node)]

    def make(*values: Any) -> Any:
        return function(spec, {**arguments, **dict(zip(names, values, strict=True))})

    return make, [arguments[name] for name in names]


def _arguments(spec: OpSpec, node: Node) -> dict[str, Any]:
    """Returns the arguments of a call to an op by name, including defaults."""
    values = spec.bind(node.args, node.kwargs)
    return dict(zip([p.name for p in spec.parameters], values, strict=True))


# ------------------------------------------------------------------ small masks on the CPU


def _operations(spec: OpSpec, arguments: dict[str, Any]) -> Any:
    assert spec.small is not None
    return torch.func.functionalize(spec.small)(**arguments)


def _is_small(spec: OpSpec, node: Node) -> bool:
    """True if plain operations compute the mask faster, with the same result."""
    mask, arguments = node.meta["val"], _arguments(spec, node)
    sizes = [compat.size_hint(size) for size in mask.shape]
    return (
        arguments.get("type", "topk") == "topk"
        and arguments["tie_break"] == "torch"
        and arguments.get("block_size") in (None, 1)
        and mask.device.type == "cpu"
        and None not in sizes
        and math.prod(sizes) <= FEW_SCORES  # type: ignore[arg-type]
        and not any("flex_attention" in str(other.target) for other in node.graph.nodes)
    )


# ------------------------------------------------------------------ kernels on CUDA


def _run(spec: OpSpec, arguments: dict[str, Any]) -> Any:
    args = tuple(arguments.values())
    return spec.planned(args).run(*spec.tensors_of(args))


def _launches(spec: OpSpec, arguments: dict[str, Any]) -> Any:
    from dmask.kernels.triton.launches import recorded

    with recorded():
        return _run(spec, arguments)


def _has_kernels(spec: OpSpec, node: Node) -> bool:
    """True if an op runs Triton kernels that can be recorded, and it pays."""
    arguments = _arguments(spec, node)
    values = [each.meta["val"] if isinstance(each, Node) else each for each in arguments.values()]
    tensors = [value for value in values if isinstance(value, Tensor)]
    sizes = [size for tensor in tensors for size in (*tensor.shape, *tensor.stride())]
    first, kind = tensors[0], arguments.get("type", spec.name.removesuffix("_mask"))
    return (
        not spec.in_parts
        and first.device.type == "cuda"
        and TRITON.usable(first.device)
        and (first.dtype in TRITON.dtypes or not first.dtype.is_floating_point)
        and (kind not in registry.strategies() or registry.get_strategy(kind).builtin)
        and not any(isinstance(each, torch.SymInt | torch.SymFloat) for each in (*sizes, *values))
        and (compat.writes_cpp() or _pays(spec, node))
    )


def _pays(spec: OpSpec, node: Node) -> bool:
    """True if compiled code is faster with the launches of an op than with the op.

    A graph holds no limit of registers. A kernel that has one serves many rows, and takes longer
    without it than a call to Python does.

    PyTorch believes that kernels change all tensors that decide where they write. If such a tensor
    is an input of the graph or a view of one, it does not capture a CUDA graph.
    """
    from dmask.kernels.triton.launches import recorded

    make, nodes = _traceable(spec, _run, node)
    values = [each.meta["val"] for each in nodes]
    with compat.fake_mode_of(values), recorded() as launches:
        graph = make_fx(torch.func.functionalize(make))(*values).graph
    changed = {each.args[0] for each in graph.nodes if each.target is torch.ops.aten.copy_.default}
    inputs = zip(nodes, graph.find_nodes(op="placeholder"), strict=True)
    return not any(launch.capped for launch in launches) and not any(
        own in changed for each, own in inputs if _base(each).op == "placeholder"
    )


def _base(node: Node) -> Node:
    """Returns the node whose memory a node has."""
    while getattr(node.target, "is_view", False):
        node = node.all_input_nodes[0]
    return node
