"""The fast CPU kernels: a threshold per row by counting, and one compare with it for the mask.

`torch.topk` finds the best keys, then a scatter writes them one by one. A threshold is enough to
know which keys are kept, except where scores tie at the last place. The loops are in `rows` and
`prefixes`. Numba, which compiles them, takes longer to import than all of dmask, so it is imported
with the first mask.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels import order, reference
from dmask.kernels.parallel import for_each_part
from dmask.kernels.selection import Rows
from dmask.kernels.tables import NO_TABLE, Table, seen_by, table_of, take_rows

DTYPES = order.DTYPES

# Up to this many scores, top-k and scatter take less time than calling compiled loops.
FEW_SCORES = 2**12
# From this many queries on, a heap that follows a growing prefix beats a selection per query.
MANY_QUERIES = 128
# From this many rows on, a sample tells whether most of them tie: one of 32, and at most 32.
MANY_ROWS = 128
SAMPLED_SHARE = 32
SAMPLED_ROWS = 32


def takes(device: torch.device, dtype: torch.dtype) -> bool:
    """True if these kernels support a bias on that device and of that dtype."""
    return device.type == "cpu" and dtype in DTYPES


class _Inputs(NamedTuple):
    """The scores of a mask's rows, and how many of them a row keeps."""

    sizes: tuple[int, int]
    """The numbers of heads and of queries."""
    bias: Table
    mask: Table
    window_size: int
    limits: order.Limits


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """As `reference.topk_mask`, for a 4-D bias of one of DTYPES."""
    from dmask.kernels import rows

    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)  # type: ignore[no-untyped-call]
    (_, heads, queries, keys), count = shape, prod(shape[:3])
    mask = NO_TABLE if allowed is None else table_of(allowed, keys)
    limits, lowest = order.limits_of(floor, bias.dtype), tie_break == "lowest"
    scores = table_of(order.bits(bias), keys)
    inputs = _Inputs((heads, queries), scores, mask, window_size, limits)
    if not lowest and _most_tie(inputs, count):
        return _picked_by_torch(bias, allowed, window_size, floor)
    # NumPy asks for huge pages where PyTorch does not: for 8 MiB a tenth of the time.
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
    """True if more than two thirds of the rows in a sample tie at the last place.

    `torch.topk` has to settle those rows in any case. Searching all rows first adds a quarter to
    its time where it is fastest, on sorted rows and on rows of one value. That pays off only if the
    search settles a third of the rows.
    """
    from dmask.kernels import rows

    sample = _sample(count)
    return len(sample) > 0 and 3 * rows.count_tied(sample, *inputs) > 2 * len(sample)


@lru_cache(maxsize=64)
def _sample(count: int) -> NDArray[np.int64]:
    """Returns the rows to sample. The golden ratio spreads them evenly, and no pattern of rows
    repeats in step with it.
    """
    size = 0 if count < MANY_ROWS else min(SAMPLED_ROWS, count // SAMPLED_SHARE)
    return (np.arange(size) * 0.618034 % 1 * count).astype(np.int64)


def _picked_by_torch(
    scores: Tensor, allowed: Tensor | None, window_size: int, floor: float
) -> Tensor:
    """As `reference.topk_mask`: which of equal scores `torch.topk` picks depends on the whole row.

    NumPy inverts the flags because PyTorch's threads wait for each other after every operation: on
    a busy machine, one operation more than in the inlined path costs a fifth of its time.
    """
    scores = reference.masked_scores(scores, allowed, floor)
    values, indices = reference.best_keys(scores, window_size, "torch")
    flags = (values <= floor).numpy()
    np.logical_not(flags, out=flags)
    mask = torch.zeros_like(scores, dtype=torch.bool, memory_format=torch.contiguous_format)
    return mask.scatter_(-1, indices, torch.from_numpy(flags))


def select(selection: Rows, shape: tuple[int, int, int], window_size: int) -> tuple[Tensor, Tensor]:
    """As `selection.select`, for a 4-D bias of one of DTYPES."""
    from dmask.kernels import prefixes, rows

    bias, allowed, _, positions, floor = selection
    _, heads, queries = shape
    scores = table_of(order.bits(bias), positions.key_len)
    mask = NO_TABLE if allowed is None else table_of(allowed, positions.key_len)
    seen, limits = seen_by(selection, shape), order.limits_of(floor, bias.dtype)
    thresholds, cutoffs = np.empty(prod(shape), scores.rows.dtype), np.empty(prod(shape), np.int32)
    per_key = scores.strides[2] == mask.strides[2] == 0
    together = per_key and positions.is_causal and queries >= MANY_QUERIES
    loop, at_once = (prefixes.select_prefixes, queries) if together else (rows.select_rows, 1)
    tables, rule = ((heads, queries), scores, mask), (seen, window_size, limits)
    work = partial(loop, *tables, *rule, thresholds, cutoffs)
    for_each_part(work, len(cutoffs) // at_once, at_once * positions.key_len)
    return order.scores(thresholds, bias.dtype).view(shape), torch.from_numpy(cutoffs).view(shape)
