"""Thresholds and cutoffs on the CPU: row by row, or with heaps that follow a growing prefix."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from dmask.kernels.cpu import codes, prefixes, rows
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.cpu.tables import NO_TABLE, seen_by, table_of
from dmask.kernels.reference.select import SelectionInputs

MANY_QUERIES = 128
"""From this many queries on, a heap that follows a growing prefix beats a selection per query."""


def select(
    inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int
) -> tuple[Tensor, Tensor]:
    """As in `reference.select`, for a 4-D bias."""
    bias, allowed, _, positions, floor = inputs
    _, heads, queries = shape
    scores = table_of(codes.bits(bias), positions.key_len)
    mask = NO_TABLE if allowed is None else table_of(allowed, positions.key_len)
    seen, limits = seen_by(inputs, shape), codes.limits_of(floor, bias.dtype)
    thresholds, cutoffs = np.empty(prod(shape), scores.rows.dtype), np.empty(prod(shape), np.int32)
    per_key = scores.strides[2] == mask.strides[2] == 0
    together = per_key and positions.is_causal and queries >= MANY_QUERIES
    loop, at_once = (prefixes.select_prefixes, queries) if together else (rows.select_rows, 1)

    def work(start: int, stop: int) -> None:
        rule = seen, window_size, limits
        loop(start, stop, (heads, queries), scores, mask, *rule, thresholds, cutoffs)

    for_each_part(work, len(cutoffs) // at_once, at_once * positions.key_len)
    return codes.scores(thresholds, bias.dtype).view(shape), torch.from_numpy(cutoffs).view(shape)
