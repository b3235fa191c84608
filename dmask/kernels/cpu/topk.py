"""Top-k on the CPU: counting finds a threshold per row, and one compare with it gives the mask.

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
SAMPLED_SHARE, SAMPLED_ROWS = 32, 32
"""The sample has one out of 32 rows, and at most 32 rows."""


class _Inputs(NamedTuple):
    """The inputs of the compiled loops."""

    sizes: tuple[int, int]
    """The numbers of heads and queries."""
    bias: BroadcastRows
    mask: BroadcastRows
    window_size: int
    limits: codes.Limits


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """See `reference.topk`. Takes a 4-D bias."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)  # type: ignore[no-untyped-call]
    (_, heads, queries, keys), count = shape, prod(shape[:3])
    mask = NO_MASK if allowed is None else broadcast_rows(allowed, keys)
    limits, lowest = codes.limits_of(floor, bias.dtype), tie_break == "lowest"
    scores = broadcast_rows(codes.bits(bias), keys)
    inputs = _Inputs((heads, queries), scores, mask, window_size, limits)
    if not lowest and _most_tie(inputs, count):
        return _picked_by_torch(bias, allowed, window_size, floor)
    # Unlike PyTorch, NumPy requests huge pages, which takes a tenth of the time for 8 MiB.
    kept, tied = np.empty((count, keys), np.bool_), np.empty(count, np.bool_)
    for_each_part(partial(rows.mask_rows, *inputs, lowest, kept, tied), count, keys)
    result = torch.from_numpy(kept)
    if not lowest and tied.any():
        some = np.flatnonzero(tied)
        scores_of = take_rows(scores, some, inputs.sizes).view(bias.dtype)
        allowed_of = None if allowed is None else take_rows(mask, some, inputs.sizes)
        masks = _picked_by_torch(scores_of, allowed_of, window_size, floor)
        result.index_copy_(0, torch.from_numpy(some), masks)
    return result.view(shape)


def _most_tie(inputs: _Inputs, count: int) -> bool:
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
    size = 0 if count < MANY_ROWS else min(SAMPLED_ROWS, count // SAMPLED_SHARE)
    return (np.arange(size) * 0.618034 % 1 * count).astype(np.int64)


def _picked_by_torch(
    scores: Tensor, allowed: Tensor | None, window_size: int, floor: float
) -> Tensor:
    """Computes masks like `reference.topk`, because `torch.topk` breaks ties by the whole row.

    NumPy inverts the flags, because PyTorch's threads wait for each other after every operation. On
    a busy machine, one more operation than in the inlined path adds a fifth to its time.
    """
    scores = masked_scores(scores, allowed, floor)
    values, indices = best_keys(scores, window_size, "torch")
    flags = (values <= floor).numpy()
    np.logical_not(flags, out=flags)
    mask = torch.zeros_like(scores, dtype=torch.bool, memory_format=torch.contiguous_format)
    return mask.scatter_(-1, indices, torch.from_numpy(flags))
