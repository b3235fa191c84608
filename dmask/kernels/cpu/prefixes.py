"""Selections of a bias per key under causality: every row ranks a prefix of the same scores.

From one row to the next, a prefix grows by one key. So does the range of a row in a packed batch,
until the next sequence starts. Adding that key to a heap of the kept keys takes `log(window_size)`
steps, whereas a separate selection for every row would scan the whole prefix again. Keys that leave
this heap move to a second one, from which a later row takes them back if its budget is larger: the
budget of a row is the window minus its sinks and local keys.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from dmask.kernels.cpu.broadcast import BroadcastRows, RowBounds
from dmask.kernels.cpu.codes import Limits
from dmask.kernels.cpu.loops import Array, compiled
from dmask.kernels.cpu.rows import encode_row, local_keys


@compiled
def select_prefixes(
    sizes: tuple[int, int],
    score_bits: BroadcastRows,
    mask: BroadcastRows,
    row_bounds: RowBounds,
    window_size: int,
    limits: Limits,
    thresholds: Array,
    cutoffs: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Like `rows.select_rows`, for all queries of the heads from `start` to before `stop`, counted
    over all batch entries.
    """
    heads, queries = sizes
    codes = np.empty(score_bits.rows.shape[1], score_bits.rows.dtype)
    for head in range(start, stop):
        first = head * queries
        encode_row(first, sizes, score_bits, mask, limits.infinity, 0, codes)
        bounds = thresholds[first : first + queries], cutoffs[first : first + queries]
        _follow(codes, row_bounds, head // heads, window_size, limits, *bounds)


@compiled
def _follow(
    codes: Array,
    row_bounds: RowBounds,
    batch: int,
    window_size: int,
    limits: Limits,
    thresholds: Array,
    cutoffs: NDArray[np.int32],
) -> None:
    """Processes the growing prefixes of one row of codes."""
    eligible = codes > limits.floor
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(eligible)))
    # Among equal codes, the lower index ranks higher.
    kept = [(np.int64(0), 0)][:0]  # a heap of (code, -index): the worst first
    spare = [(np.int64(0), 0)][:0]  # a heap of (~code, index): the best first
    begin, taken = -1, 0
    for query in range(len(cutoffs)):
        first, end = local_keys(row_bounds, batch, query)
        if row_bounds.starts[batch, query] != begin or first < taken:
            begin = row_bounds.starts[batch, query]
            taken = begin + row_bounds.sinks
            kept.clear()
            spare.clear()
        sinks = min(begin + row_bounds.sinks, row_bounds.ends[batch, query])
        budget = window_size - (before[sinks] - before[begin]) - (before[end] - before[first])
        while spare and len(kept) < budget:
            code, index = heappop(spare)
            heappush(kept, (~code, -index))
        for index in range(taken, first):
            if eligible[index]:
                heappush(kept, (np.int64(codes[index]), -index))
        taken = max(taken, first)
        while len(kept) > budget:
            code, index = heappop(kept)
            heappush(spare, (~code, -index))
        thresholds[query], cutoffs[query] = limits.infinity, -1
        if kept:
            thresholds[query], cutoffs[query] = kept[0][0], -kept[0][1]
