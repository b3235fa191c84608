"""Selections of a bias per key under causality: every row ranks a prefix of the same scores.

From one row to the next a prefix grows by a key. A heap of the kept keys takes it in with
`log(window_size)` steps, where a selection for every row would look at the whole prefix again. What
leaves that heap goes to a second one, from which a later row takes it back if it may keep more: the
budget of a row is what its sinks and local keys leave of the window.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from dmask.kernels.order import Array
from dmask.kernels.selection import Positions

Counts = NDArray[np.int64]
NOTHING = -1
"""The place of a row that keeps nothing by its scores."""


def last_kept(
    keys: Array, eligible: NDArray[np.bool_], positions: Positions, length: int, window_size: int
) -> Counts:
    """For every row the index of the key that it keeps at its last place, or NOTHING.

    Args:
        keys: `[Lk]`, as `order` makes them.
        eligible: `[Lk]`, those that may be kept.
        length: how many keys there are; the others are padding.
        window_size: what sinks and local keys leave of it is given by score.
    """
    ends = np.clip(positions.own(np.arange(positions.query_len), np.int64(length)) + 1, 0, None)
    sinks = np.minimum(positions.sinks, ends)
    pool = np.maximum(ends - positions.local, sinks)  # up to where keys have to compete
    before = np.concatenate([[0], np.cumsum(eligible)])
    budgets = window_size - (before[sinks] + before[ends] - before[pool])
    # Of equal keys the lower index is the better one. A row's last key is so its largest index
    # among the equal ones that it keeps.
    best_first = np.argsort(~keys, kind="stable")
    merits = np.empty(len(keys), np.int64)
    merits[best_first] = np.arange(len(keys))[::-1]
    merits[~eligible] = NOTHING
    merits[: positions.sinks] = NOTHING
    lowest = _lowest_kept(merits.tolist(), pool.tolist(), budgets.tolist())
    index_of = np.append(best_first[::-1], NOTHING)  # by merit; NOTHING is the last place
    return index_of[np.array(lowest, np.int64)]


def _lowest_kept(merits: list[int], ends: list[int], budgets: list[int]) -> list[int]:
    """Per row the lowest of the `budget` highest merits before its end, which never goes back."""
    kept: list[int] = []  # a heap, the lowest merit first
    spare: list[int] = []  # a heap of negated merits, the highest first
    lowest = []
    at = 0
    for end, budget in zip(ends, budgets, strict=True):
        while spare and len(kept) < budget:
            heappush(kept, -heappop(spare))
        for merit in merits[at:end]:
            if merit != NOTHING:
                heappush(kept, merit)
        at = end
        while len(kept) > budget:
            heappush(spare, -heappop(kept))
        lowest.append(kept[0] if kept else NOTHING)
    return lowest
