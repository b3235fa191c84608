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


class Forbidden(NamedTuple):
    """The keys that some rows may not see, in these columns. They may see all others."""

    columns: slice
    allowed: Flags
    """`[rows, columns]`"""


class Choice(NamedTuple):
    """Keys that are kept as long as nobody has looked at ties."""

    keys: Array
    """`[rows, Lk]`"""
    threshold: Array
    """`[rows, 1]`: what a key has to reach. Where fewer keys than the budget are above the floor,
    the first key above the floor."""
    kept: Flags
    """`[rows, Lk]`: which allowed keys reach it."""


def choose(
    keys: Array, forbidden: Forbidden | None, budget: Budget, floor_key: int, out: Flags
) -> Choice:
    """Keeps the best keys of each row that are above the floor, and what ties with the last one.

    Args:
        keys: `[rows, Lk]`.
        budget: at least 1.
        floor_key: neither this key nor one below it is kept.
        out: where to write `Choice.kept`.
    """
    threshold = _nth_best(keys, forbidden, budget)
    return _reaching(keys, forbidden, threshold, floor_key, out)


def choose_above_zero(
    bits: Array,
    forbidden: Forbidden | None,
    budget: int,
    floor_key: int,
    infinity: int,
    out: Flags,
) -> Choice | None:
    """As `choose`, on the plain bits of scores: right, and half the work, where the last score that
    a row keeps is a number above zero; `None` where it is not.

    As integers the bits of all scores that are not above zero are zero or less, whatever their
    order; but a NaN with a sign is among them.
    """
    if budget >= bits.shape[-1] or not _seem_above_zero(bits, forbidden, budget):
        return None
    threshold = _nth_best(bits, forbidden, budget)
    if threshold.min() <= 0 or threshold.max() > infinity:
        return None
    return _reaching(bits, forbidden, threshold, max(floor_key, 0), out)


def keep_all_above(bits: Array, forbidden: Forbidden | None, floor_key: int, out: Flags) -> None:
    """Keeps whatever is above a floor below zero, on the plain bits of scores, no NaN with a sign.

    As unsigned integers the bits of all scores above such a floor are less than the floor's.
    """
    unsigned = np.dtype(f"u{bits.itemsize}")
    sign_bit = 1 << (8 * bits.itemsize - 1)
    np.less(bits.view(unsigned), unsigned.type(sign_bit - floor_key), out=out)
    if forbidden is not None:
        out[:, forbidden.columns] &= forbidden.allowed


def _seem_above_zero(bits: Array, forbidden: Forbidden | None, budget: int) -> bool:
    """Whether a sample of a few rows and columns has so many scores above zero."""
    # So few that NumPy keeps the GIL, which takes longer to come back than the sample.
    rows, columns = max(1, len(bits) // 4), max(1, bits.shape[-1] // 64)
    above = bits[::rows, ::columns] > 0
    if forbidden is not None:
        first, stop = forbidden.columns.start, forbidden.columns.stop
        inside = slice(-(-first // columns), -(-stop // columns))
        skipped = inside.start * columns - first
        above[:, inside] &= forbidden.allowed[::rows, skipped::columns]
    share = budget / bits.shape[-1]
    return bool(above.sum(axis=-1).min() > above.shape[-1] * (share + 0.02) + 2)


def _nth_best(keys: Array, forbidden: Forbidden | None, budget: Budget) -> Array:
    """Per row `[rows, 1]` the key at the last place of the budget, or the least one there is."""
    width = keys.shape[-1]
    if isinstance(budget, int) and budget >= width:
        # No selection: whatever is above the floor is kept.
        return np.full((len(keys), 1), np.iinfo(keys.dtype).min, keys.dtype)
    ranked = scratch("ranked", keys.shape, keys.dtype)
    np.copyto(ranked, keys)
    if forbidden is not None:
        order.forbid(ranked[:, forbidden.columns], forbidden.allowed)
    if isinstance(budget, int):
        ranked.partition(width - budget, axis=-1)
        return ranked[:, width - budget, None]
    places = np.clip(width - budget, 0, width - 1)
    ranked.partition(np.unique(places), axis=-1)
    nth: Array = np.take_along_axis(ranked, places[:, None], axis=-1)
    return nth


def _reaching(
    keys: Array, forbidden: Forbidden | None, threshold: Array, floor_key: int, out: Flags
) -> Choice:
    threshold = np.maximum(threshold, keys.dtype.type(floor_key + 1))
    np.greater_equal(keys, threshold, out=out)
    if forbidden is not None:
        out[:, forbidden.columns] &= forbidden.allowed
    return Choice(keys, threshold, out)


def excess(choice: Choice, budget: int, floor_key: int) -> Counts | None:
    """By how many keys each row `[rows]` is over its budget, for keys tie at its last place; `None`
    where none is.
    """
    kept = choice.kept
    # Above the floor no row keeps less than its budget. Scores of many bits seldom tie; counting
    # all flags takes a tenth of the time of counting by rows.
    above_floor = choice.keys.itemsize > 2 and choice.threshold.min() > floor_key + 1
    if above_floor and np.count_nonzero(kept) == budget * len(kept):
        return None
    over = np.maximum(_counts(kept) - budget, 0)
    return over if over.any() else None


def _counts(kept: Flags) -> Counts:
    # A sum of bytes into 16 bits takes a fifth of the time of one into 64.
    narrow = np.int16 if kept.shape[-1] < 2**15 else np.int32
    counts: Counts = np.add.reduce(kept.view(np.int8), axis=-1, dtype=narrow).astype(np.int64)
    return counts


def drop_late_ties(choice: Choice, excess: Counts) -> None:
    """Settles ties by index: each row loses the last of its keys at the threshold."""
    rows = np.flatnonzero(excess)
    if 2 * len(rows) < len(excess):
        tied, excess = Choice(*(part[rows] for part in choice)), excess[rows]
    else:  # to copy most of the rows would cost more than to look at all of them
        tied, rows = choice, np.arange(len(excess))
    ties = _ties(tied, tied.threshold)
    rank = np.arange(len(ties.rows)) - ties.first[ties.rows]
    late = rank >= (ties.counts - excess)[ties.rows]
    choice.kept[rows[ties.rows[late]], ties.columns[late]] = False


def bounds(choice: Choice, budget: Budget) -> tuple[Array, Counts]:
    """Per row the smallest key that is kept, and the last index at which a key equal to it is, or
    -1 in a row that keeps nothing.
    """
    counts = _counts(choice.kept)
    threshold = _smallest_kept(choice, np.flatnonzero(counts <= budget))
    ties = _ties(choice, threshold[:, None])
    last = ties.first + ties.counts - np.maximum(counts - budget, 0) - 1
    cutoff = np.full(len(counts), -1)
    some = np.minimum(counts, budget) > 0
    cutoff[some] = ties.columns[last[some]]
    return threshold, cutoff


def _smallest_kept(choice: Choice, rows: Counts) -> Array:
    """The thresholds `[rows]`, made exact for rows where it was the floor's: these keep all keys
    above the floor. The largest key there is stands for none.
    """
    threshold: Array = choice.threshold[:, 0].copy()
    largest = np.iinfo(threshold.dtype).max
    kept = np.where(choice.kept[rows], choice.keys[rows], largest)
    threshold[rows] = kept.min(axis=-1, initial=largest)
    return threshold


class _Ties(NamedTuple):
    """The allowed keys that are equal to their row's threshold, in row-major order."""

    rows: Counts
    columns: Counts
    counts: Counts
    """`[rows]`: how many of each row."""
    first: Counts
    """`[rows]`: at which place of the above those of a row begin."""


def _ties(choice: Choice, threshold: Array) -> _Ties:
    width = choice.keys.shape[-1]
    equal = choice.keys == threshold
    equal &= choice.kept
    at = _places(equal)
    rows = at // width
    counts = np.bincount(rows, minlength=len(equal))
    return _Ties(rows, at - rows * width, counts, np.cumsum(counts) - counts)


def _places(flags: Flags) -> Counts:
    """As `np.flatnonzero`, in half its time where few flags are set: looks at eight at once."""
    if flags.size % 8 != 0:
        return np.flatnonzero(flags)
    eights = np.flatnonzero(flags.ravel().view(np.uint64) != 0)
    which, within = np.nonzero(flags.reshape(-1, 8)[eights])
    return eights[which] * 8 + within
