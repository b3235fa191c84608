"""The selection rule on rows of sortable keys: NumPy's quickselect, then the ties at the end.

A row is `[Lk]` keys as `order` makes them. No row looks at another one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmask.kernels import order
from dmask.kernels.order import Array
from dmask.kernels.parallel import scratch

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Budget = int | Counts
"""How many keys a row keeps at most: for all rows alike, or `[rows]`."""


class Choice(NamedTuple):
    """Keys that are kept as long as nobody has looked at ties."""

    keys: Array
    """`[rows, Lk]`"""
    threshold: Array
    """`[rows, 1]`: what a key has to reach. Where fewer keys than the budget are above the floor,
    the first key above the floor."""
    kept: Flags
    """`[rows, Lk]`: which keys reach it."""
    counts: Counts
    """`[rows]`: how many."""


def choose(keys: Array, budget: Budget, floor_key: int, out: Flags | None = None) -> Choice:
    """Keeps the best keys of each row that are above the floor, and what ties with the last one.

    Args:
        keys: `[rows, Lk]`.
        budget: at least 1.
        floor_key: neither this key nor one below it is kept.
        out: where to write `Choice.kept`.
    """
    threshold = np.maximum(_nth_best(keys, budget), keys.dtype.type(floor_key + 1))
    kept = np.greater_equal(keys, threshold, out=out)
    # A sum of bytes into 16 bits takes a fifth of the time of one into 64.
    narrow = np.int16 if keys.shape[-1] < 2**15 else np.int32
    counts = np.add.reduce(kept.view(np.int8), axis=-1, dtype=narrow)
    return Choice(keys, threshold, kept, counts.astype(np.int64))


def _nth_best(keys: Array, budget: Budget) -> Array:
    """Per row `[rows, 1]` the key at the last place of the budget, or the least one there is."""
    width = keys.shape[-1]
    if not isinstance(budget, int):
        places = np.clip(width - budget, 0, width - 1)
        ranked = np.partition(keys, np.unique(places), axis=-1)
        return np.take_along_axis(ranked, places[:, None], axis=-1)
    if budget >= width:  # no selection: whatever is above the floor is kept
        return np.full((len(keys), 1), np.iinfo(keys.dtype).min, keys.dtype)
    ranked = scratch("ranked", keys.shape, keys.dtype)
    np.copyto(ranked, keys)
    ranked.partition(width - budget, axis=-1)
    return ranked[:, width - budget, None]


class _Ties(NamedTuple):
    """The keys that are equal to their row's threshold, in row-major order."""

    rows: Counts
    columns: Counts
    counts: Counts
    """`[rows]`: how many of each row."""
    first: Counts
    """`[rows]`: at which place of the above those of a row begin."""


def _ties(keys: Array, threshold: Array) -> _Ties:
    width = keys.shape[-1]
    at = _places(keys == threshold)
    rows = at // width
    counts = np.bincount(rows, minlength=len(keys))
    return _Ties(rows, at - rows * width, counts, np.cumsum(counts) - counts)


def _places(flags: Flags) -> Counts:
    """As `np.flatnonzero`, in half its time where few flags are set: looks at eight at once."""
    if flags.size % 8 != 0:
        return np.flatnonzero(flags)
    eights = np.flatnonzero(flags.ravel().view(np.uint64) != 0)
    which, within = np.nonzero(flags.reshape(-1, 8)[eights])
    return eights[which] * 8 + within


def drop_late_ties(choice: Choice, budget: int) -> None:
    """Settles ties by index: rows that keep too many lose the last of those at the threshold."""
    over = np.flatnonzero(choice.counts > budget)
    keys, threshold, counts = choice.keys, choice.threshold, choice.counts
    if len(over) < len(keys):
        keys, threshold, counts = keys[over], threshold[over], counts[over]
    ties = _ties(keys, threshold)
    rank = np.arange(len(ties.rows)) - ties.first[ties.rows]
    late = rank >= (ties.counts - counts + budget)[ties.rows]
    choice.kept[over[ties.rows[late]], ties.columns[late]] = False


def bounds(choice: Choice, budget: Budget, nothing: int) -> tuple[Array, Counts]:
    """Per row the smallest key that is kept, and the last index at which a key equal to it is.

    A row that keeps nothing has the bounds (`nothing`, -1).
    """
    keys, threshold, kept, counts = choice
    nan = order.nan(keys.dtype)
    fits = np.flatnonzero(counts <= budget)
    # Where all that is above the floor is kept, the threshold was the floor's.
    threshold = threshold.copy()
    threshold[fits, 0] = np.where(kept[fits], keys[fits], nan).min(axis=-1, initial=nan)
    ties = _ties(keys, threshold)
    last = ties.first + ties.counts - np.maximum(counts - budget, 0) - 1
    cutoff = np.full(len(keys), -1)
    some = np.minimum(counts, budget) > 0
    cutoff[some] = ties.columns[last[some]]
    threshold[~some] = nothing
    return threshold[:, 0], cutoff
