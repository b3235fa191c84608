"""Defines the ops `torch.ops.dmask.*` when dmask is imported, before any trace.

`OPS` are those that are not a strategy's; each strategy has one of its own.
"""

from __future__ import annotations

from dmask import registry
from dmask.contracts import (
    block_smooth,
    block_topk,
    blocks,
    create_mask,
    dense,
    indexer,
    indices,
    masks,
    ratio,
    relu,
    select,
    topk,
    topp,
)
from dmask.contracts.spec import define, fragment

OPS = (
    masks.AS_BOOL,
    block_smooth.SPEC,
    create_mask.SPEC,
    blocks.BLOCK_LISTS,
    blocks.KEPT_BLOCKS,
    indexer.SPEC,
    indices.KEPT_INDICES,
    dense.SPEC,
    indices.MASK_FROM_INDICES,
    select.SPEC,
    indices.TOPK_INDICES,
)
STRATEGIES = (block_topk.STRATEGY, ratio.STRATEGY, relu.STRATEGY, topk.STRATEGY, topp.STRATEGY)

_LIBRARY = fragment()
for _spec in OPS:
    define(_spec, _LIBRARY)
for _strategy in STRATEGIES:
    registry.add(_strategy)


def op_names() -> tuple[str, ...]:
    """Returns the sorted names of all ops, including those of registered strategies.

    >>> import dmask.ops
    >>> "create_mask" in dmask.ops.op_names() and "topk_mask" in dmask.ops.op_names()
    True
    """
    names = [spec.name for spec in OPS]
    return tuple(sorted([*names, *(f"{name}_mask" for name in registry.strategies())]))
