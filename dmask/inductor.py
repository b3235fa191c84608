"""Replaces ops with plain operations for small masks in graphs that Inductor compiles.

Calling a Python kernel from compiled code costs more than the few operations of a decode-size mask.
Dynamo and AOTAutograd still see one opaque op per mask. Inductor replaces it once it has the whole
graph, because only then are two things known: the likely size of the mask, without a guard on it,
and that the graph has no FlexAttention. On the CPU, FlexAttention's kernels give wrong results if
they capture tensors that a traced scatter produced.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from dmask import compat
from dmask.contracts.dispatch import FEW_SCORES
from dmask.contracts.spec import OpSpec


def offer(spec: OpSpec) -> None:
    """Registers the rewrite of an op with Inductor, unless Inductor is not loaded.

    Importing Inductor takes seconds, so this never imports it. Call this while an op is traced: if
    Inductor is the compiler, it is loaded before tracing.
    """
    if "torch._inductor.fx_passes.post_grad" in sys.modules:
        _register(spec)


@cache
def _register(spec: OpSpec) -> None:
    small = spec.small
    assert small is not None

    def check(match: Any) -> bool:
        return _is_small(spec, match.nodes[0])

    def rewrite(match: Any, *args: Any, **kwargs: Any) -> None:
        arguments = _arguments(spec, match.nodes[0])
        names = [name for name, value in arguments.items() if isinstance(value, Node)]

        def make(*values: Any) -> Tensor:
            return small(**{**arguments, **dict(zip(names, values, strict=True))})

        match.replace_by_example(torch.func.functionalize(make), [arguments[n] for n in names])

    compat.rewrite_after_grad(spec.overload, check, rewrite)


def _arguments(spec: OpSpec, node: Node) -> dict[str, Any]:
    """Returns the arguments of a call to an op by name, including defaults."""
    values = spec.bind(node.args, node.kwargs)
    return dict(zip([p.name for p in spec.parameters], values, strict=True))


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
