"""Blocks of queries and keys for FlexAttention: the ops `kept_blocks` and `block_lists`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from dmask import validation
from dmask.compat import known
from dmask.contracts.dispatch import Kernel
from dmask.contracts.select import SELECTED, read_selection
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import TensorMeta

_kept_blocks = Kernel("blocks.kept_blocks", "cpu", "triton")
_block_lists = Kernel("blocks.block_lists", "triton")


def _plan_kept(bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta, *others: Any) -> Plan:
    *selected, query_block, key_block = others
    checked = read_selection(bias, threshold, cutoff, *selected)
    validation.check_positive("query_block", query_block)
    validation.check_positive("key_block", key_block)
    _, _, query_len, key_len = checked.shape
    if known(query_block * key_block >= 2**31) and known(query_len * key_len >= 2**31):
        raise ValueError(
            f"query_block * key_block must be below 2^31, because int32 holds the counts, "
            f"got {query_block} * {key_block}"
        )
    blocks = -(-query_len // query_block), -(-key_len // key_block)
    kernel = _kept_blocks.choose(bias.device, bias.dtype)

    def run(
        bias: Tensor, threshold: Tensor, cutoff: Tensor, *restrictions: Tensor | None
    ) -> Tensor:
        inputs = checked.inputs(bias, *restrictions)
        counts: Tensor = kernel(inputs, threshold, cutoff, (query_block, key_block))
        return counts

    return Plan(TensorMeta((*threshold.shape[:2], *blocks), torch.int32, bias.device), run)


def _plan_lists(counts: TensorMeta, whole: int) -> Plan:
    if counts.dtype is not torch.int32:
        raise TypeError(f"counts must be int32, got {counts.dtype}")
    if len(counts.shape) != 4:
        raise ValueError(f"counts must be 4-D [B, H, nq, nk], got shape {tuple(counts.shape)}")
    validation.check_positive("whole", whole)
    batch, heads, rows, columns = counts.shape
    shapes = [
        shape
        for wide, long in ((rows, columns), (columns, rows))
        for shape in 2 * ((batch, heads, wide), (batch, heads, wide, long))
    ]
    kernel = _block_lists.choose(counts.device, None)
    results = tuple(counts._replace(shape=shape) for shape in shapes)
    return Plan(results, partial(kernel, whole=whole))


KEPT_BLOCKS = OpSpec(
    f"kept_blocks({SELECTED}, SymInt query_block, SymInt key_block) -> Tensor", _plan_kept
)
_LISTS = ", ".join(
    f"Tensor {full}{side}_{what}"
    for side in ("kv", "q")
    for full in ("", "full_")
    for what in ("num_blocks", "indices")
)
BLOCK_LISTS = OpSpec(f"block_lists(Tensor counts, SymInt whole) -> ({_LISTS})", _plan_lists)
