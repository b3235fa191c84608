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
    """See `reference.select`. Takes a 4-D bias."""
    bias, allowed, _, positions, floor = inputs
    _, heads, queries = shape
    scores = broadcast_rows(codes.bits(bias), positions.key_len)
    mask = NO_MASK if allowed is None else broadcast_rows(allowed, positions.key_len)
    bounds, limits = row_bounds(inputs, shape), codes.limits_of(floor, bias.dtype)
    thresholds, cutoffs = np.empty(prod(shape), scores.rows.dtype), np.empty(prod(shape), np.int32)
    per_key = scores.strides[2] == mask.strides[2] == 0
    together = per_key and positions.is_causal and queries >= MANY_QUERIES
    loop, unit = (prefixes.select_prefixes, queries) if together else (rows.select_rows, 1)
    tables, rule = ((heads, queries), scores, mask), (bounds, window_size, limits)
    work = partial(loop, *tables, *rule, thresholds, cutoffs)
    for_each_part(work, len(cutoffs) // unit, unit * positions.key_len)
    return codes.scores(thresholds, bias.dtype).view(shape), torch.from_numpy(cutoffs).view(shape)
