"""`kept_blocks` and `block_lists`: a selection for FlexAttention, without a dense mask."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs
from benchmarks.ops.select import threshold_mask

BLOCK = 128


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, causal, window_size = inputs.scores(query_len=1), inputs.causal(), inputs.window_size

    def selected() -> tuple[Tensor, Tensor]:
        kept = dmask.select(bias, window_size, is_causal=True, query_len=inputs.query_len)
        blocks = kept.to_block_mask(BLOCK)
        return blocks.kv_num_blocks, blocks.full_kv_num_blocks

    yield Case(
        "bias per key, causal",
        "dense mask, sums",
        selected,
        lambda: counted(threshold_mask(bias, causal, window_size)),
    )


def counted(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Counts the partial and the full blocks of each row of blocks."""
    tiles = mask.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))
    kept = tiles.sum(dim=(-3, -1))
    full = kept == BLOCK * BLOCK
    return ((kept > 0) & ~full).sum(dim=-1).int(), full.sum(dim=-1).int()
