"""The threshold of a row in registers, found by counting.

Scores stay floats. Only the numbers to try are *codes*, integers that sort like scores: cutting a
range of codes ends after a bounded number of steps, whatever the scores are.

A count takes two floating-point instructions per score: `saturate(score * scale + shift)` and an
addition. A Hopper multiprocessor issues 128 of these per cycle, but only 64 compares or integer
additions, and counting with those takes 2.3 instructions per score.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import code_of, infinity, score_of
from dmask.kernels.triton.histogram import MOST, search_histogram
from dmask.kernels.triton.instructions import saturate, without_nan
from dmask.kernels.triton.pairs import count_pairs, unpaired


@triton.jit
def _scaled(code, dtype: tl.constexpr):
    """Returns `scale, shift, exact`: `saturate(score * scale + shift)` flags scores that reach a
    code.

    The flag is exactly 1 or 0. The scale is a power of two that stretches the gap between the code
    and the next lower one to at least 1. `exact` is False if there is no such power, because the
    number is too close to 0.
    """
    below = tl.where((code == 0) | (code == -1), -2, code - 1)  # 0.0 and -0.0 are one number
    number = score_of(below, dtype)
    exponent = (number.to(tl.int32, bitcast=True) >> 23) & 0xFF
    scale = (tl.maximum(tl.minimum(278 - exponent, 254), 1) << 23).to(tl.float32, bitcast=True)
    return scale, -number * scale, exponent >= 24


@triton.jit
def count_two(scores, scale, shift, upper_scale, upper_shift):
    """Counts the scores of a tile `[R, C]` that reach two numbers, at most 65535 each.

    Two counts share one integer, and so one reduction over threads.
    """
    first = tl.sum(saturate(tl.fma(scores, scale, shift)), 0).to(tl.int32)
    second = tl.sum(saturate(tl.fma(scores, upper_scale, upper_shift)), 0).to(tl.int32)
    return tl.sum(first + (second << 16), 0)


@triton.jit
def count_reaching(scores, lower, upper, dtype: tl.constexpr):
    """Counts the scores that reach the code `lower`, and those that reach `upper` >= `lower`."""
    if scores.dtype == tl.int32:
        counts = count_pairs(scores, lower, upper, dtype)
    else:
        counts = count_scores(scores, lower, upper, dtype)
    return counts & 0xFFFF, (counts >> 16) & 0xFFFF


@triton.jit
def count_scores(scores, lower, upper, dtype: tl.constexpr):
    """Returns the two counts of `count_reaching` in one integer."""
    scale, shift, exact = _scaled(lower, dtype)
    upper_scale, upper_shift, upper_exact = _scaled(upper, dtype)
    if exact & upper_exact:
        counts = count_two(scores, scale, shift, upper_scale, upper_shift)
    else:
        low, high = score_of(lower, dtype), score_of(upper, dtype)
        flags = tl.where(scores >= high, 0x10001, tl.where(scores >= low, 1, 0))
        counts = tl.sum(tl.sum(flags, 0), 0)
    return counts


@triton.jit
def width_of(low, high):
    """Returns the width of a bracket as float32.

    Subtracts integers that wrap around: the width may need 32 bits, and float32 cannot tell large
    codes apart.
    """
    return (high - low).to(tl.uint32, bitcast=True).to(tl.float32)


@triton.jit
def between(low, high, first, second):
    """Returns the integers at two shares of a bracket, above `low`."""
    width = width_of(low, high)  # the sums may wrap around; the results are right
    lower = low + (width * first).to(tl.uint32).to(tl.int32)
    upper = low + (width * second).to(tl.uint32).to(tl.int32) + 1
    lower = tl.minimum(tl.maximum(lower, low + 1), high)
    return lower, tl.minimum(tl.maximum(upper, lower), high)


@triton.jit
def guess(low, high, reaching, beyond, budget, thirds):
    """Returns the two integers of a bracket to try next, for a budget of scores."""
    inverse = 1.0 / tl.maximum(reaching - beyond, 1).to(tl.float32)
    share = ((reaching - budget).to(tl.float32) + 0.5) * inverse
    return pivots(low, high, share, inverse, thirds)


@triton.jit
def pivots(low, high, share, inverse, thirds):
    """Returns the two integers of a bracket to try next, above `low`.

    If the scores of the bracket were spread evenly, the threshold would be at `share` of its width.
    The integers are 0.8 standard deviations of that guess below and above it, so that the bracket
    shrinks to about the square root of its scores. `inverse` is 1 / the number of scores. `thirds`
    cuts the bracket into three equal parts instead.
    """
    spread = 0.8 * tl.sqrt(tl.maximum(share * (1 - share), 0.25 * inverse) * inverse)
    first = tl.where(thirds, 0.3333, tl.maximum(share - spread, 0.0))
    second = tl.where(thirds, 0.6667, tl.minimum(share + spread, 1.0))
    return between(low, high, first, second)


@triton.jit
def tail_share(reaching, beyond, wanted):
    """Estimates where in a bracket `wanted` scores are reached, as a share of its width.

    In a tail, the logarithm of the count falls evenly with the score. For normal scores, this takes
    half as many steps as `guess`, but each step takes longer.
    """
    most, wanted = reaching.to(tl.float32), tl.maximum(wanted, 0.5)
    least = tl.maximum(beyond.to(tl.float32), 0.5)
    even = (most - wanted) / tl.maximum(most - least, 1.0)
    tail = tl.log2(most / wanted) / tl.log2(tl.maximum(most / least, 1.001))
    return tl.minimum(tl.maximum(tl.where(most > 1.5 * wanted, tail, even), 0.0), 1.0)


@triton.jit
def code_at(low, high, share, dtype: tl.constexpr):
    """Returns the code of the score at a share of a bracket, above `low`. If an end is infinite,
    returns the code in the middle.
    """
    half = (high >= infinity(dtype)) | (low <= -infinity(dtype) - 1)
    start, end = score_of(tl.where(half, 0, low), dtype), score_of(tl.where(half, 0, high), dtype)
    code = code_of(start * (1.0 - share) + end * share, dtype)
    code = tl.where(half, (low >> 1) + (high >> 1), code)
    return tl.minimum(tl.maximum(code, low + 1), high)


@triton.jit
def guess_by_value(low, high, reaching, beyond, budget, thirds, dtype: tl.constexpr):
    """Returns the two codes of a bracket to try next, above `low`, interpolating between scores."""
    inside = tl.maximum(reaching - beyond, 1).to(tl.float32)
    share = ((reaching - budget).to(tl.float32) + 0.5) / inside
    spread = 0.8 * tl.sqrt(tl.maximum(share * (1 - share) * inside, 0.25))
    wanted = budget.to(tl.float32) - 0.5
    first = tail_share(reaching, beyond, wanted + spread)
    second = tail_share(reaching, beyond, wanted - spread)
    if thirds:
        lower, upper = between(low, high, 0.3333, 0.6667)
    else:
        lower = code_at(low, high, first, dtype)
        upper = tl.maximum(code_at(low, high, second, dtype), lower)
    return lower, upper


@triton.jit
def narrow(low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper):
    """Returns `low, high, reaching, beyond` after counting at two numbers inside the bracket."""
    above, below = at_upper >= budget, at_lower < budget
    high = tl.where(above, high, tl.where(below, lower, upper) - 1)
    beyond = tl.where(above, beyond, tl.where(below, at_lower, at_upper))
    low = tl.where(above, upper, tl.where(below, low, lower))
    return low, high, tl.where(above, at_upper, tl.where(below, reaching, at_lower)), beyond


@triton.jit
def barely(low, high, width):
    """True if a bracket is still more than a quarter as wide as it was."""
    return width_of(low, high) > width * 0.25


@triton.jit
def snap(scores, low, high, dtype: tl.constexpr):
    """Returns the codes of the first and the last score in a bracket, and how many there are."""
    high = tl.where(high == -1, -2, high)  # the code of -0.0, which is not below 0.0
    inside = (scores >= score_of(low, dtype)) & (scores <= score_of(high, dtype))
    first = tl.min(tl.min(tl.where(inside, scores, float("inf")), 0), 0)
    last = tl.max(tl.max(tl.where(inside, scores, -float("inf")), 0), 0)
    count = tl.sum(tl.sum(inside.to(tl.int32), 0), 0)
    return code_of(first, dtype), code_of(last, dtype), count


@triton.jit
def search(
    scores,
    budget,
    lowest,
    low,
    high,
    reaching,
    beyond,
    lower,
    upper,
    BY_VALUE: tl.constexpr,
    SNAP: tl.constexpr,
    dtype: tl.constexpr,
):
    """Narrows a bracket of codes until `budget` scores reach its lower end.

    Args:
        scores: float32 `[R, C]`: infinity for NaN, -inf where a key must not be kept. Or pairs of
            16-bit scores, with their NaN.
        lowest: the code of the lowest eligible score.
        low, high: the bracket. `reaching` scores reach `low`, and `beyond` are above `high`.
        lower, upper: the codes to try first, not below `lowest`. None if `upper < lower`.
        BY_VALUE: for a bracket from the smallest to the largest score.
        SNAP: if a step leaves all scores in the bracket, move its ends to the nearest scores. There
            are no scores between a plateau and the next score, and from 0.0 to the smallest
            positive score, the search would take twenty steps.

    Returns:
        `low, reaching, beyond`. `reaching` exceeds the budget only if scores tie at `low`. Then
        `beyond` scores are above it.
    """
    thirds, start = low > high, upper >= lower
    while (reaching > budget) & (low < high):
        if start == 0:
            if BY_VALUE:
                lower, upper = guess_by_value(low, high, reaching, beyond, budget, thirds, dtype)
            else:
                lower, upper = guess(low, high, reaching, beyond, budget, thirds)
                if low < lowest:
                    lower, upper = lowest, tl.maximum(upper, lowest)
        at_lower, at_upper = count_reaching(scores, lower, upper, dtype)
        width, inside = width_of(low, high), reaching - beyond
        low, high, reaching, beyond = narrow(
            low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper
        )
        if SNAP:  # noqa: SIM102  # SNAP is known at compile time
            # Nothing was counted below `lowest`.
            if (reaching - beyond == inside) & (low >= lowest):
                low, high, _ = snap(scores, low, high, dtype)
        if BY_VALUE:
            thirds = ((reaching - beyond) * 2 > inside) & (thirds == 0)
        else:
            thirds = barely(low, high, width) & (thirds == 0)
        start = low > high
    return low, reaching, beyond


@triton.jit
def whole_bracket(scores, lowest, dtype: tl.constexpr):
    """Returns the codes of the smallest and largest eligible score, and how many are eligible. If
    none is, the first is the code of infinity.
    """
    eligible = scores >= score_of(lowest, dtype)
    smallest = tl.min(tl.where(eligible, scores, float("inf")), 0)
    largest = tl.max(tl.where(eligible, scores, -float("inf")), 0)
    count = tl.sum(tl.sum(eligible.to(tl.int32), 0), 0)
    # The threads of a warp compare integers in one instruction, but floats in ten.
    return tl.min(code_of(smallest, dtype), 0), tl.max(code_of(largest, dtype), 0), count


@triton.jit
def search_all(scores, budget, lowest, low, high, reaching, dtype: tl.constexpr):
    """Searches between the codes of the smallest and the largest score of a tile, `low` and `high`.
    `reaching` scores reach `low`. Returns the same as `search`.
    """
    if scores.dtype == tl.float32 and scores.numel <= MOST:
        codes = code_of(scores, dtype)
        found = search_histogram(codes, budget, budget * 0, low, high, reaching)
    else:
        SNAP: tl.constexpr = dtype == tl.float32  # noqa: N806
        none, beyond = lowest - 1, budget * 0
        found = search(
            scores, budget, lowest, low, high, reaching, beyond, lowest, none, True, SNAP, dtype
        )
    return found


@triton.jit
def find_threshold(
    scores,
    budget,
    lowest,
    lower,
    upper,
    size,
    ALONE: tl.constexpr,
    ROWS: tl.constexpr,
    dtype: tl.constexpr,
):
    """Returns the code of a threshold, how many scores reach it, and how many are above it.

    Args:
        scores, lowest, lower, upper: as in `search`.
        budget: how many to keep, at least 1.
        size: how many scores there are, or more.
        ALONE: search from the smallest to the largest score, and not from `lower` and `upper`.
        ROWS: how many rows a program takes. After the first, `lower` and `upper` come from the row
            before.

    Returns:
        `low, reaching, beyond`. `reaching` is the budget, or less if fewer scores reach the lowest,
        or more if scores tie at the last place. In the last case, `beyond` scores are above `low`.
    """
    if ALONE:
        if scores.dtype == tl.int32:
            bracket = whole_bracket(without_nan(unpaired(scores, dtype)), lowest, dtype)
        else:
            bracket = whole_bracket(scores, lowest, dtype)
        low, high, reaching = bracket
        low, reaching, beyond = search_all(scores, budget, lowest, low, high, reaching, dtype)
    else:
        # `reaching` starts above the budget, although nothing is counted below `lowest`: the scores
        # that reach it must be counted even if the budget is the whole row.
        low, high = lowest - 1, lowest * 0 + infinity(dtype)
        reaching, beyond = tl.maximum(budget * 0 + size, budget + 1), budget * 0
        # Several rows: the first codes find the plateau. 16 bits: few codes surround it.
        SNAP: tl.constexpr = (ROWS == 1) & (dtype == tl.float32)  # noqa: N806
        low, reaching, beyond = search(
            scores, budget, lowest, low, high, reaching, beyond, lower, upper, False, SNAP, dtype
        )
        # If `low < lowest`, fewer scores than the budget are eligible.
        reaching = tl.where(low < lowest, beyond, reaching)
        low = tl.maximum(low, lowest)
    return low, reaching, beyond


@triton.jit
def find_cutoff(places, budget, beyond, reaching, size):
    """Returns a number that `budget` of the distinct places `[R, C]` do not exceed.

    Args:
        places: float32 integers: -1 for the `beyond` scores that are kept anyway, key + `beyond`
            for the `reaching - beyond` scores that tie, and more than `beyond + size` for all
            others.
    """
    # The same search, on negated places. Enough are counted at `low`, too few above `high`.
    low, high = -beyond - size, -beyond
    thirds = low > high
    while (reaching > budget) & (low < high):
        lower, upper = guess(low, high, reaching, beyond, budget, thirds)
        counts = count_two(
            places, -1.0, 1.0 - lower.to(tl.float32), -1.0, 1.0 - upper.to(tl.float32)
        )
        at_lower, at_upper = counts & 0xFFFF, (counts >> 16) & 0xFFFF
        width = width_of(low, high)
        low, high, reaching, beyond = narrow(
            low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper
        )
        thirds = barely(low, high, width) & (thirds == 0)
    return -low


@triton.jit
def first_pivots(hint, distance, lowest, dtype: tl.constexpr):
    """Returns the codes to try first: around the threshold of the previous row.

    A negative distance means that there is no previous row. Then returns `lowest`, whose count is
    the number of eligible keys, and the code of 0.0.
    """
    none = distance < 0
    center = hint.to(tl.int64)
    lower = tl.where(none, lowest, tl.maximum(center - distance, lowest)).to(tl.int32)
    upper = tl.where(none, 0, tl.minimum(center + distance + 1, infinity(dtype))).to(tl.int32)
    return lower, tl.maximum(upper, lower)


@triton.jit
def next_hint(hint, distance, low, lowest):
    """Returns the hint for the next row: this row's threshold, and how far thresholds usually move.

    Distances decay by a quarter per row. A row whose threshold is `lowest` keeps the old hint.
    """
    moved = tl.minimum(tl.abs(low.to(tl.int64) - hint), 1 << 29).to(tl.int32)
    further = tl.where(distance < 0, 0, distance - distance // 4 + moved // 2)
    return tl.where(low > lowest, low, hint), tl.where(low > lowest, further, distance)
