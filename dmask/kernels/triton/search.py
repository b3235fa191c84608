"""The threshold of a row in registers, found by counting.

Scores stay floats. Only the numbers to try are integers that sort like scores, *codes*, because
cutting the codes between two numbers ends after 16 or 32 steps whatever the scores are.

A count is two operations of the multiply-add pipe per score, `saturate(score * scale + shift)` and
an addition. Hopper issues 128 of them per cycle, and 64 compares or integer additions, of which a
count takes 2.3.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl
from triton.language.extra import libdevice

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def score_of(code, dtype: tl.constexpr):
    """Returns the float of a code, in the precision that scores are compared in."""
    if dtype == tl.float32:
        bits = tl.where(code < 0, code ^ 0x7FFFFFFF, code)
        return bits.to(tl.float32, bitcast=True)
    bits = tl.where(code < 0, code ^ 0x7FFF, code)
    if dtype == tl.bfloat16:
        return (bits << 16).to(tl.float32, bitcast=True)
    return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def infinity(dtype: tl.constexpr):
    """Returns the code of infinity, above which there is only NaN."""
    if dtype == tl.float32:
        return 0x7F800000
    if dtype == tl.bfloat16:
        return 0x7F80
    return 0x7C00


@triton.jit
def saturate(x):
    """Clamps to 0 and 1, NaN to 0: a flag of the instruction before it, where there is one."""
    if INTERPRETED:  # it has no libdevice
        return tl.where(x >= 1.0, 1.0, tl.where(x > 0.0, x, 0.0))
    return libdevice.saturatef(x)


@triton.jit
def _scaled(code, dtype: tl.constexpr):
    """Returns how to tell whether a score reaches a code: `saturate(score * scale + shift)`.

    The result is 1 or 0, exactly. The scale is a power of two that makes the gap between the number
    below the code and the next at least 1. False as the third result: there is no such power,
    because the number is too close to 0.
    """
    below = tl.where((code == 0) | (code == -1), -2, code - 1)  # 0.0 and -0.0 are one number
    number = score_of(below, dtype)
    exponent = (number.to(tl.int32, bitcast=True) >> 23) & 0xFF
    scale = (tl.maximum(tl.minimum(278 - exponent, 254), 1) << 23).to(tl.float32, bitcast=True)
    return scale, -number * scale, exponent >= 24


@triton.jit
def count_two(scores, scale, shift, upper_scale, upper_shift):
    """Counts the ones of two saturated products of a tile `[R, C]`, at most 65535 each.

    Two counts share one integer, and so one reduction over threads.
    """
    first = tl.sum(saturate(tl.fma(scores, scale, shift)), 0).to(tl.int32)
    second = tl.sum(saturate(tl.fma(scores, upper_scale, upper_shift)), 0).to(tl.int32)
    return tl.sum(first + (second << 16), 0)


@triton.jit
def count_reaching(scores, lower, upper, dtype: tl.constexpr):
    """Counts the scores that reach the codes `lower` and `upper`, which is not below it."""
    scale, shift, exact = _scaled(lower, dtype)
    upper_scale, upper_shift, upper_exact = _scaled(upper, dtype)
    if exact & upper_exact:
        counts = count_two(scores, scale, shift, upper_scale, upper_shift)
    else:
        low, high = score_of(lower, dtype), score_of(upper, dtype)
        flags = tl.where(scores >= high, 0x10001, tl.where(scores >= low, 1, 0))
        counts = tl.sum(tl.sum(flags, 0), 0)
    return counts & 0xFFFF, (counts >> 16) & 0xFFFF


@triton.jit
def guess(low, high, reaching, beyond, budget, thirds):
    """Returns the two numbers of a bracket to try next, for a budget of scores."""
    inside = tl.maximum(reaching - beyond, 1).to(tl.float32)
    share = ((reaching - budget).to(tl.float32) + 0.5) / inside
    return pivots(low, high, share, inside, thirds)


@triton.jit
def pivots(low, high, share, inside, thirds):
    """Returns the two numbers of a bracket to try next, above `low`.

    They are on both sides of where the threshold would be if the `inside` scores of the bracket
    were spread evenly, above the given share of them, a standard deviation of that guess apart: the
    bracket shrinks to about the square root of its scores. `thirds` cuts the bracket evenly
    instead, whatever the scores are.
    """
    width = high.to(tl.float32) - low.to(tl.float32)
    spread = 0.8 * tl.sqrt(tl.maximum(share * (1 - share) * inside, 0.25)) / inside
    first = tl.where(thirds, 0.3333, tl.maximum(share - spread, 0.0))
    second = tl.where(thirds, 0.6667, tl.minimum(share + spread, 1.0))
    base, end = low.to(tl.int64), high.to(tl.int64)
    lower = tl.minimum(tl.maximum(base + (width * first).to(tl.int64), base + 1), end)
    upper = tl.minimum(tl.maximum(base + (width * second).to(tl.int64) + 1, lower), end)
    return lower.to(tl.int32), upper.to(tl.int32)


@triton.jit
def narrow(low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper):
    """Returns what is left of a bracket after counting what reaches two numbers inside it."""
    if at_upper >= budget:
        low, reaching = upper, at_upper
    else:
        if at_lower >= budget:
            low, reaching = lower, at_lower
            high, beyond = upper - 1, at_upper
        else:
            high, beyond = lower - 1, at_lower
    return low, high, reaching, beyond


@triton.jit
def barely(low, high, width):
    """True if a bracket is still more than a quarter as wide as it was."""
    return high.to(tl.float32) - low.to(tl.float32) > width * 0.25


@triton.jit
def find_threshold(scores, budget, floor, lower, upper, size, dtype: tl.constexpr):
    """Returns the code of a threshold, how many scores reach it, and how many are above it.

    Args:
        scores: float32 `[R, C]`: infinity for NaN, -inf where a key must not be kept.
        budget: how many to keep, at least 1.
        floor: the lowest code that may be kept.
        lower, upper: the codes to try first, not below the floor.
        size: how many scores there are, or more.

    Returns:
        `low, reaching, beyond`. Either `reaching` is the budget, or less because no more scores
        reach the floor. Or it is more, because scores tie at the last place: then `beyond` scores
        are above `low`.
    """
    # Below the floor all scores reach, which nobody has to count. What reaches the floor has to be
    # counted even where the budget is all scores: hence at least one more.
    low, high = floor - 1, floor * 0 + infinity(dtype)
    reaching, beyond = tl.maximum(budget * 0 + size, budget + 1), budget * 0
    thirds, start = low > high, low < high
    while (reaching > budget) & (low < high):
        if start == 0:
            lower, upper = guess(low, high, reaching, beyond, budget, thirds)
            if low < floor:
                lower, upper = floor, tl.maximum(upper, floor)
        at_lower, at_upper = count_reaching(scores, lower, upper, dtype)
        width = high.to(tl.float32) - low.to(tl.float32)
        low, high, reaching, beyond = narrow(
            low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper
        )
        thirds, start = barely(low, high, width) & (thirds == 0), low > high
    # Fewer scores than the budget reach the floor.
    return tl.maximum(low, floor), tl.where(low < floor, beyond, reaching), beyond


@triton.jit
def find_cutoff(places, budget, beyond, reaching, size):
    """Returns a number that `budget` of the distinct places `[R, C]` do not exceed.

    Args:
        places: float32 integers: -1 for each of the `beyond` scores that are kept anyway;
            `beyond` more than its key for each of the `reaching - beyond` scores that tie; or more
            than `beyond + size`.
    """
    # The same search, downward: at `low` enough places are counted, at `high` too few.
    low, high = -beyond - size, -beyond
    thirds = low > high
    while reaching > budget:
        lower, upper = guess(low, high, reaching, beyond, budget, thirds)
        counts = count_two(
            places, -1.0, 1.0 - lower.to(tl.float32), -1.0, 1.0 - upper.to(tl.float32)
        )
        at_lower, at_upper = counts & 0xFFFF, (counts >> 16) & 0xFFFF
        width = high.to(tl.float32) - low.to(tl.float32)
        low, high, reaching, beyond = narrow(
            low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper
        )
        thirds = barely(low, high, width) & (thirds == 0)
    return -low


@triton.jit
def first_pivots(hint, distance, floor, dtype: tl.constexpr):
    """Returns the codes to try first: around the threshold of the row before.

    With a negative distance there is none yet: the floor, which tells how many keys may be kept at
    all, and zero.
    """
    none = distance < 0
    center = hint.to(tl.int64)
    lower = tl.where(none, floor, tl.maximum(center - distance, floor)).to(tl.int32)
    upper = tl.where(none, 0, tl.minimum(center + distance + 1, infinity(dtype))).to(tl.int32)
    return lower, tl.maximum(upper, lower)


@triton.jit
def next_hint(hint, distance, low, floor):
    """Returns the hint that a row leaves: its threshold, and how far thresholds usually move.

    Distances fade by a quarter per row. A row that had nothing to choose leaves the hint as it is.
    """
    moved = tl.minimum(tl.abs(low.to(tl.int64) - hint), 1 << 29).to(tl.int32)
    further = tl.where(distance < 0, 0, distance - distance // 4 + moved // 2)
    return tl.where(low > floor, low, hint), tl.where(low > floor, further, distance)
