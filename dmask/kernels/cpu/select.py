"""Thresholds and cutoffs on the CPU: row by row, or with heaps that follow a growing prefix."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from dmask.kernels.cpu import codes, prefixes, rows
from dmask.kernels.cpu.broadcast import NO_MASK, broadcast_rows, row_bounds
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.reference.select import SelectionInputs

MANY_QUERIES = 128
"""From this many queries on, a heap that follows a growing prefix is faster than row by row."""


def select(
    inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int
) -> tuple[Tensor, Tensor]:
    """Same as `reference.select.select`, for a 4-D bias."""
    bias, allowed, _, positions, floor = inputs
    _, heads, queries = shape
    score_bits = broadcast_rows(codes.bits(bias), positions.key_len)
    mask = NO_MASK if allowed is None else broadcast_rows(allowed, positions.key_len)
    bounds, limits = row_bounds(inputs, shape), codes.limits_of(floor, bias.dtype)
    thresholds = np.empty(prod(shape), score_bits.rows.dtype)
    cutoffs = np.empty(prod(shape), np.int32)
    per_key = score_bits.strides[2] == mask.strides[2] == 0
    by_prefix = per_key and positions.is_causal and queries >= MANY_QUERIES
    loop = prefixes.select_prefixes if by_prefix else rows.select_rows
    rows_per_item = queries if by_prefix else 1
    work = partial(
        loop, (heads, queries), score_bits, mask, bounds, window_size, limits, thresholds, cutoffs
    )
    for_each_part(work, len(cutoffs) // rows_per_item, rows_per_item * positions.key_len)
    return codes.scores(thresholds, bias.dtype).view(shape), torch.from_numpy(cutoffs).view(shape)
