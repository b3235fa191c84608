"""Top-k on the CPU: counting finds a threshold per row, and one comparison with it gives the mask.

`torch.topk` finds the best keys, and a scatter then writes them one by one. A threshold is enough
to determine the kept keys, unless scores tie at the last rank.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.cpu import codes, rows
from dmask.kernels.cpu.broadcast import NO_MASK, BroadcastRows, broadcast_rows, take_rows
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.reference.ranking import best_keys, masked_scores

MANY_ROWS = 128
"""From this many rows on, a sample determines if most of them tie."""
ROWS_PER_SAMPLE, SAMPLED_ROWS = 32, 32
"""The sample has one out of 32 rows, and at most 32 rows."""


class _Inputs(NamedTuple):
    """The inputs of the compiled loops."""

    sizes: tuple[int, int]
    """The numbers of heads and queries."""
    score_bits: BroadcastRows
    mask: BroadcastRows
    window_size: int
    limits: codes.Limits


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """Same as `reference.topk.topk_mask`, for a 4-D bias."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)  # type: ignore[no-untyped-call]
    (_, heads, queries, keys), count = shape, prod(shape[:3])
    mask = NO_MASK if allowed is None else broadcast_rows(allowed, keys)
    limits, lowest_index_wins = codes.limits_of(floor, bias.dtype), tie_break == "lowest"
    score_bits = broadcast_rows(codes.bits(bias), keys)
    inputs = _Inputs((heads, queries), score_bits, mask, window_size, limits)
    if not lowest_index_wins and _most_rows_have_ties(inputs, count):
        return _picked_by_torch(bias, allowed, window_size, floor)
    # NumPy requests huge pages and PyTorch does not, so NumPy allocates large masks faster.
    kept, tied = np.empty((count, keys), np.bool_), np.empty(count, np.bool_)
    for_each_part(partial(rows.mask_rows, *inputs, lowest_index_wins, kept, tied), count, keys)
    result = torch.from_numpy(kept)
    if not lowest_index_wins and tied.any():
        tied_rows = np.flatnonzero(tied)
        tied_scores = take_rows(score_bits, tied_rows, inputs.sizes).view(bias.dtype)
        tied_allowed = None if allowed is None else take_rows(mask, tied_rows, inputs.sizes)
        masks = _picked_by_torch(tied_scores, tied_allowed, window_size, floor)
        result.index_copy_(0, torch.from_numpy(tied_rows), masks)
    return result.view(shape)


def _most_rows_have_ties(inputs: _Inputs, count: int) -> bool:
    """True if scores tie at the last rank in more than two thirds of a sample of rows.

    `torch.topk` must process those rows in any case. On sorted rows and on rows of one value, where
    `torch.topk` is fastest, searching all rows first adds a quarter to its time. That pays off only
    if the search resolves at least a third of the rows.
    """
    sample = _sample(count)
    return len(sample) > 0 and 3 * rows.count_tied(sample, *inputs) > 2 * len(sample)


@lru_cache(maxsize=64)
def _sample(count: int) -> NDArray[np.int64]:
    """Returns the rows to sample. The golden ratio spreads them evenly without aligning with any
    repeating pattern of rows.
    """
    size = 0 if count < MANY_ROWS else min(SAMPLED_ROWS, count // ROWS_PER_SAMPLE)
    return (np.arange(size) * 0.618034 % 1 * count).astype(np.int64)


def _picked_by_torch(
    scores: Tensor, allowed: Tensor | None, window_size: int, floor: float
) -> Tensor:
    """Computes masks as `reference.topk.topk_mask` does. Which tied keys `torch.topk` picks depends
    on the whole row, so only `torch.topk` itself can reproduce its choice.

    NumPy inverts the flags, because PyTorch's threads wait for each other after every operation. On
    a busy machine, one more operation than in the inlined path adds a fifth to its time.
    """
    scores = masked_scores(scores, allowed, floor)
    # The reference takes min(window_size, keys). Rows with ties have more keys than the window.
    values, indices = best_keys(scores, window_size, "torch")
    flags = (values <= floor).numpy()
    np.logical_not(flags, out=flags)
    mask = torch.zeros_like(scores, dtype=torch.bool, memory_format=torch.contiguous_format)
    return mask.scatter_(-1, indices, torch.from_numpy(flags))
