"""Thresholds and cutoffs on the CPU: row by row, or with heaps that follow a growing prefix."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from dmask.kernels.cpu import codes, prefixes, rows
from dmask.kernels.cpu.broadcast import NO_MASK, RowBounds, broadcast_rows, row_bounds
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.reference.select import SelectionInputs

MANY_QUERIES = 128
"""From this many queries per prefix on, a heap that follows it is faster than row by row."""


def select(
    inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int
) -> tuple[Tensor, Tensor]:
    """Same as `reference.select.select`, for a 4-D bias."""
    bias, allowed, _, positions, floor, _ = inputs
    batch, heads, queries = shape
    score_bits = broadcast_rows(codes.bits(bias), positions.key_len)
    mask = NO_MASK if allowed is None else broadcast_rows(allowed, positions.key_len)
    bounds, limits = row_bounds(inputs, shape), codes.limits_of(floor, bias.dtype)
    thresholds = np.empty(prod(shape), score_bits.rows.dtype)
    cutoffs = np.empty(prod(shape), np.int32)
    per_key = score_bits.strides[2] == mask.strides[2] == 0
    ends_at_own = positions.is_causal or inputs.ranges is not None
    by_prefix = per_key and ends_at_own and batch * queries >= MANY_QUERIES * _prefixes(bounds)
    loop = prefixes.select_prefixes if by_prefix else rows.select_rows
    rows_per_item = queries if by_prefix else 1
    work = partial(
        loop, (heads, queries), score_bits, mask, bounds, window_size, limits, thresholds, cutoffs
    )
    for_each_part(work, len(cutoffs) // rows_per_item, rows_per_item * positions.key_len)
    return codes.scores(thresholds, bias.dtype).view(shape), torch.from_numpy(cutoffs).view(shape)


def _prefixes(bounds: RowBounds) -> int:
    """Returns how many prefixes there are that grow from one query to the next."""
    fewer = (np.diff(bounds.starts) != 0) | (np.diff(bounds.ends) < 0)
    return max(1, len(bounds.starts)) + int(fewer.sum())
