"""The selection rule on one row after another, as loops that Numba compiles.

A row of scores fits the first-level cache. To count there how many of them reach a number takes a
fraction of a pass over memory, so that bisection finds the threshold sooner than a sort, a heap or
a quickselect would, and in the same time whatever the scores are. All that a row is told of the one
before is where to look first.

Scores come as the bits of floats and are ranked as keys: see `order`. A forbidden score gets the
lowest key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from dmask.kernels.cpu.codes import Limits
from dmask.kernels.cpu.tables import Seen, Table

F = TypeVar("F", bound=Callable[..., Any])
Array = NDArray[Any]
Flags = NDArray[np.bool_]

Bracket = tuple[int, int, int, int]
"""Two keys between which, both included, a threshold is; how many keys reach the lower one, and how
many are above the upper one."""

Near = tuple[int, int]
"""The threshold of the row before, and how far from it to look for that of the next one."""

# In shorter rows a sample says too little to be worth its while.
LONG_ROW = 2**12
SAMPLE_STEP = 32
# The row before was of no help if more of the keys are still in question.
NEAR_SHARE = 8


def compiled(function: F) -> F:
    """Compiles at the first call, for good where there is a place to keep what was compiled."""
    try:
        result: F = numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        result = numba.njit(function, nogil=True)
    return result


@compiled
def mask_rows(
    start: int,
    stop: int,
    sizes: tuple[int, int],
    bias: Table,
    mask: Table,
    window_size: int,
    limits: Limits,
    lowest: bool,
    kept: Flags,
    tied: Flags,
) -> None:
    """Writes the top-k masks of the rows from `start` to before `stop`.

    Args:
        sizes: how many heads and queries there are.
        bias: the bits of the scores.
        lowest: whether of equal scores at the last place the lower indices are kept. Otherwise all
            are, and the row is marked in `tied`.
        kept: `[rows, Lk]`.
        tied: `[rows]`.
    """
    keys = np.empty(bias.rows.shape[1], bias.rows.dtype)
    near = limits.floor, 0
    for row in range(start, stop):
        rank(row, sizes, bias, mask, limits.infinity, keys)
        threshold, excess, near = _last_place(keys, window_size, limits.floor, near)
        _keep_from(keys, threshold, kept[row])
        if excess and lowest:
            tail = _last_kept(keys, threshold, excess) + 1
            _keep_above(keys[tail:], threshold, kept[row, tail:])
        tied[row] = excess > 0


@compiled
def select_rows(
    start: int,
    stop: int,
    sizes: tuple[int, int],
    bias: Table,
    mask: Table,
    seen: Seen,
    window_size: int,
    limits: Limits,
    thresholds: Array,
    cutoffs: NDArray[np.int32],
) -> None:
    """Writes the `thresholds` `[rows]`, as keys, and `cutoffs` `[rows]` of some rows."""
    heads, queries = sizes
    keys = np.empty(bias.rows.shape[1], bias.rows.dtype)
    near = limits.floor, 0
    for row in range(start, stop):
        batch, query = row // (heads * queries), row % queries
        rank(row, sizes, bias, mask, limits.infinity, keys)
        visible = keys[: seen.ends[batch, query]]
        first, end = local_keys(seen, batch, query)
        budget = window_size - _take(visible[: seen.sinks], limits.floor)
        budget -= _take(visible[first:end], limits.floor)
        thresholds[row], cutoffs[row], near = _bounds(visible, budget, limits, near)


@compiled
def local_keys(seen: Seen, batch: int, query: int) -> tuple[int, int]:
    """Which keys are local and no sinks: from one to before the other."""
    own, end = seen.own[batch, query], seen.ends[batch, query]
    first = min(max(own - seen.local + 1, seen.sinks), end)
    return first, max(min(own + 1, end), first)


@compiled
def rank(
    row: int, sizes: tuple[int, int], bias: Table, mask: Table, infinity: int, keys: Array
) -> None:
    """Writes the keys of a row."""
    _rank(bias.rows[_place(row, sizes, bias.strides)], infinity, keys)
    if mask.rows.size:
        _forbid(keys, mask.rows[_place(row, sizes, mask.strides)])


@compiled
def _place(row: int, sizes: tuple[int, int], strides: tuple[int, int, int]) -> int:
    """Which row of a table belongs to one of the result."""
    heads, queries = sizes
    batch, head, query = row // (heads * queries), row // queries % heads, row % queries
    return batch * strides[0] + head * strides[1] + query * strides[2]


# The loops below are written so that they become vector instructions: no branch but a choice of
# value, and all integers as narrow as the keys, of which one instruction takes the more.


@compiled
def _rank(bits: Array, infinity: int, keys: Array) -> None:
    """The keys of a row of bits."""
    narrow = keys.dtype.type
    largest = np.iinfo(keys.dtype).max
    for j in range(len(keys)):
        magnitude = narrow(bits[j] & largest)
        key = narrow(magnitude if bits[j] >= 0 else -magnitude)
        keys[j] = narrow(largest if magnitude > infinity else key)


@compiled
def _forbid(keys: Array, allowed: Flags) -> None:
    lowest = np.iinfo(keys.dtype).min
    for j in range(len(keys)):
        keys[j] = keys.dtype.type(keys[j] if allowed[j] else lowest)


@compiled
def _keep_from(keys: Array, threshold: int, kept: Flags) -> None:
    least = keys.dtype.type(threshold)
    for j in range(len(keys)):
        kept[j] = keys[j] >= least


@compiled
def _keep_above(keys: Array, threshold: int, kept: Flags) -> None:
    last = keys.dtype.type(threshold)
    for j in range(len(keys)):
        kept[j] = keys[j] > last


@compiled
def _count(keys: Array, threshold: int) -> int:
    """How many keys reach a threshold."""
    least = keys.dtype.type(threshold)
    block = 2**14  # a narrow counter holds so many
    total = 0
    for start in range(0, len(keys), block):
        total += _count_block(keys[start : start + block], least)
    return total


@compiled
def _count_block(keys: Array, least: int) -> int:
    narrow = keys.dtype.type
    count = narrow(0)
    for j in range(len(keys)):
        count = narrow(count + narrow(keys[j] >= least))
    return count


@compiled
def _least_from(keys: Array, threshold: int) -> int:
    """The least key that reaches a threshold; where none does, the largest number."""
    narrow = keys.dtype.type
    least, largest = narrow(threshold), narrow(np.iinfo(keys.dtype).max)
    found = largest
    for j in range(len(keys)):
        key = narrow(keys[j] if keys[j] >= least else largest)
        found = narrow(key if key < found else found)
    return found


@compiled
def _count_equal(keys: Array, number: int) -> int:
    """How many keys of a block are a number."""
    narrow = keys.dtype.type
    wanted, count = narrow(number), narrow(0)
    for j in range(len(keys)):
        count = narrow(count + narrow(keys[j] == wanted))
    return count


@compiled
def _last_place(keys: Array, budget: int, floor: int, near: Near) -> tuple[int, int, Near]:
    """A threshold above the floor that `budget` keys reach, and how many more do because they tie
    at the last place. Where fewer keys are above the floor, all of them reach it. Then where the
    next row is to look first.
    """
    whole = floor + 1, np.iinfo(keys.dtype).max, _count(keys, floor + 1), 0
    if whole[2] <= budget:
        return whole[0], 0, near
    bracket = _ask(keys, budget, near[0] + near[1] + 1, whole)
    bracket = _ask(keys, budget, near[0] - near[1], bracket)
    if len(keys) >= LONG_ROW and bracket[2] - bracket[3] > len(keys) // NEAR_SHARE:
        bracket = _sample(keys, budget, whole, bracket)
    threshold, excess = _search(keys, budget, bracket)
    return threshold, excess, _nearer(near, threshold, floor)


@compiled
def _nearer(near: Near, threshold: int, floor: int) -> Near:
    """Where the next row is to look, after a row with that threshold: within four times the usual
    distance, which few rows exceed. Distances fade, a quarter with each row.
    """
    if near[0] == floor:  # no row before has chosen
        return threshold, 0
    return threshold, near[1] - near[1] // 4 + abs(threshold - near[0])


@compiled
def _sample(keys: Array, budget: int, whole: Bracket, bracket: Bracket) -> Bracket:
    """Closes a bracket as Floyd and Rivest select (1975): by two numbers between which, says a
    sample of the keys, the threshold is.
    """
    sample = keys[::SAMPLE_STEP].copy()
    place = budget * len(sample) / len(keys)
    margin = 2 * np.sqrt(place) + 1
    for about in (place + margin, max(place - margin, 1)):
        guess, _ = _search(sample, int(about), (whole[0], whole[1], len(sample), 0))
        bracket = _ask(keys, budget, guess, bracket)
    if _count_equal(sample, bracket[0]) > 1:  # keys tie there
        bracket = _ask(keys, budget, bracket[0] + 1, bracket)
    return bracket


@compiled
def _search(keys: Array, budget: int, bracket: Bracket) -> tuple[int, int]:
    """As `_last_place`, for a threshold within a bracket."""
    turn = 0
    while bracket[2] > budget and bracket[0] < bracket[1]:
        bracket = _ask(keys, budget, _between(budget, bracket, turn), bracket)
        turn = (turn + 1) % 3
    return bracket[0], max(bracket[2] - budget, 0)


@compiled
def _between(budget: int, bracket: Bracket, turn: int) -> int:
    """Where in a bracket to ask next: where the threshold would be if the keys were spread evenly,
    then a little farther, so that the bracket closes from its other side, then in the middle,
    which halves it whatever the keys are.
    """
    low, high, reaching, beyond = bracket
    if turn == 2 or low < 0 <= high:  # the distance of two numbers may be none
        return (low | high) - ((low ^ high) >> 1)
    inside, above = reaching - beyond, reaching - budget + 0.5
    if turn == 1:
        above += np.sqrt(inside) / (2 if 2 * above < inside else -2)
    share = min(max(above / inside, 0.001), 0.999)  # never so far that an integer overflows
    return low + max(int((high - low) * share), 1)


@compiled
def _ask(keys: Array, budget: int, number: int, bracket: Bracket) -> Bracket:
    """What is left of a bracket once the keys that reach a number of it are counted."""
    low, high, reaching, beyond = bracket
    if not low < number <= high:
        return bracket
    count = _count(keys, number)
    return (number, high, count, beyond) if count >= budget else (low, number - 1, reaching, count)


@compiled
def _last_kept(keys: Array, threshold: int, excess: int) -> int:
    """Where the last key at the threshold is that stays once the last `excess` of them are gone:
    ties are settled by index.
    """
    block, end = 128, len(keys)
    ties = _count_equal(keys[max(end - block, 0) : end], threshold)
    while ties <= excess:
        excess -= ties
        end = max(end - block, 0)
        ties = _count_equal(keys[max(end - block, 0) : end], threshold)
    j = end - 1
    while excess or keys[j] != threshold:
        excess -= keys[j] == threshold
        j -= 1
    return j


@compiled
def _take(keys: Array, floor: int) -> int:
    """Takes keys out of the competition: how many of them were above the floor."""
    count = _count(keys, floor + 1)
    keys[:] = np.iinfo(keys.dtype).min
    return count


@compiled
def _bounds(keys: Array, budget: int, limits: Limits, near: Near) -> tuple[int, int, Near]:
    """The smallest key that is kept, and the last index at which one equal to it is. Then where
    the next row is to look first.
    """
    if budget == 0:
        return limits.infinity, -1, near
    least, excess, near = _last_place(keys, budget, limits.floor, near)
    threshold = _least_from(keys, least)
    if not _count(keys, threshold):
        return limits.infinity, -1, near
    return threshold, _last_kept(keys, threshold, excess), near
