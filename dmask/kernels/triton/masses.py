"""How many of a row's best keys hold a share of its softmax, found without sorting.

The mass of the scores that reach a number falls as the number rises, so that the last score that is
needed can be searched for as a threshold is. Masses of float32 bring it down to a few scores, with
room for their error; masses of float64 decide among these.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import code_of, score_of
from dmask.kernels.triton.rows import load_scores
from dmask.kernels.triton.search import barely, narrow, pivots, snap, width_of

ERROR = tl.constexpr(1e-4)
"""More than twenty times the relative error of a mass in float32."""


@triton.jit
def weigh(scores, top):
    """Returns the softmax of scores before it is divided by its sum."""
    return tl.exp(scores - top)


@triton.jit
def weigh_exactly(scores, top):
    """Returns the same in float64, to a few units in the last place, without branches."""
    logits = scores.to(tl.float64) - top.to(tl.float64)
    some = logits > -708.0  # others have less than the smallest normal number
    logits = tl.where(some, logits, 0.0)
    # 1.5 * 2^52 rounds to an integer, and leaves it in the lowest bits.
    powers = logits * 1.4426950408889634 + 6755399441055744.0
    number = powers - 6755399441055744.0
    rest = (logits - number * 0.6931471803691238) - number * 1.9082149292705877e-10
    series = rest * 1.6059043836821613e-10 + 2.08767569878681e-09
    series = series * rest + 2.505210838544172e-08
    series = series * rest + 2.755731922398589e-07
    series = series * rest + 2.7557319223985893e-06
    series = series * rest + 2.48015873015873e-05
    series = series * rest + 0.0001984126984126984
    series = series * rest + 0.001388888888888889
    series = series * rest + 0.008333333333333333
    series = series * rest + 0.041666666666666664
    series = series * rest + 0.16666666666666666
    series = series * rest + 0.5
    series = series * rest + 1.0
    series = series * rest + 1.0
    bits = series.to(tl.int64, bitcast=True) + (powers.to(tl.int64, bitcast=True) << 52)
    return tl.where(some, bits.to(tl.float64, bitcast=True), 0.0)


@triton.jit
def mass_reaching(scores, weights, least):
    """Returns the mass of the scores that reach a number."""
    return tl.sum(tl.sum(tl.where(scores >= least, weights, 0.0), 0), 0)


@triton.jit
def bracket(scores, top, share):
    """Returns codes of scores that the last needed one lies between, and how many scores do."""
    high = code_of(top, tl.float32)
    low, high, inside = snap(
        scores, high * 0 - 0x7F800000, high, tl.float32
    )  # from the lowest finite number
    reaching = mass_reaching(scores, weigh(scores, top), -float("inf"))
    goal, beyond = reaching * share, reaching * 0.0
    thirds, moves = low > high, low < high
    while moves:
        part = (reaching - goal) / (reaching - beyond)
        lower, upper = pivots(low, high, part, 1.0 / tl.maximum(inside, 1).to(tl.float32), thirds)
        weights = weigh(scores, top)
        at_lower = mass_reaching(scores, weights, score_of(lower, tl.float32))
        at_upper = mass_reaching(scores, weights, score_of(upper, tl.float32))
        width = width_of(low, high)
        before_low, before_high = low, high
        if at_lower >= goal * (1 + ERROR):
            low, reaching = lower, at_lower
        if at_upper >= goal * (1 + ERROR):
            low, reaching = upper, at_upper
        if at_upper <= goal * (1 - ERROR):
            high, beyond = upper - 1, at_upper
        if at_lower <= goal * (1 - ERROR):
            high, beyond = lower - 1, at_lower
        moves = (low != before_low) | (high != before_high)
        low, high, inside = snap(scores, low, high, tl.float32)
        thirds = barely(low, high, width) & (thirds == 0)
        moves = moves & (low < high)
    return low, high, inside


@triton.jit
def exact_masses(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    lowest,
    lower,
    upper,
    top,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Returns the mass of the scores of a row that reach three numbers, in float64.

    Reads the row again, block by block: with all weights of a row, a thread would need twice the
    registers that there are.
    """
    total = tl.zeros((BLOCK,), tl.float64)
    at_lower, at_upper = total, total
    for start in range(0, keys, BLOCK):
        key = start + tl.arange(0, BLOCK)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        weights = tl.where(scores >= lowest, weigh_exactly(scores, top), 0.0)
        total += weights
        at_lower += tl.where(scores >= lower, weights, 0.0)
        at_upper += tl.where(scores >= upper, weights, 0.0)
    return tl.sum(total, 0), tl.sum(at_lower, 0), tl.sum(at_upper, 0)


@triton.jit
def last_needed(
    scores,
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    lowest,
    top,
    share,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Returns the last score that the share needs, and how many keys hold the share."""
    low, high, inside = bracket(scores, top, share.to(tl.float32))
    lower, upper = score_of(low, tl.float32), score_of(high + 1, tl.float32)
    goal, reaching, beyond = exact_masses(
        line, bias_k, allowed, mask_k, keys, lowest, lower, upper, top, HAS_MASK, BLOCK
    )
    goal *= share
    thirds = low > high
    while low < high:
        part = ((reaching - goal) / (reaching - beyond)).to(tl.float32)
        first, second = pivots(low, high, part, 1.0 / tl.maximum(inside, 1).to(tl.float32), thirds)
        lower, upper = score_of(first, tl.float32), score_of(second, tl.float32)
        _, at_first, at_second = exact_masses(
            line, bias_k, allowed, mask_k, keys, lowest, lower, upper, top, HAS_MASK, BLOCK
        )
        width = width_of(low, high)
        low, high, reaching, beyond = narrow(
            low, high, reaching, beyond, goal, first, second, at_first, at_second
        )
        low, high, inside = snap(scores, low, high, tl.float32)
        thirds = barely(low, high, width) & (thirds == 0)
    last = score_of(low, tl.float32)
    above = tl.sum(tl.sum((scores > last).to(tl.int32), 0), 0)
    ties = tl.sum(tl.sum((scores == last).to(tl.int32), 0), 0)
    # As many ties as it takes to go from the mass above them to the goal.
    need = tl.ceil((goal - beyond) / weigh_exactly(last, top))
    need = tl.minimum(tl.maximum(need, 1.0), ties.to(tl.float64))
    return last, above + need.to(tl.int32)


@triton.jit
def share_of_mass(
    scores,
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    budget,
    lowest,
    share,
    lower,
    upper,
    dtype: tl.constexpr,
    HAS_MASK: tl.constexpr,
    C: tl.constexpr,
):
    """Returns how many keys a share of the softmax takes, at most `budget`, and codes to try first
    for the threshold of these keys.

    Args:
        scores: float32 `[R, C]`: infinity for NaN, -inf where a key must not be kept.
        share: the bits of a float64 between 0 and 1.
        lower, upper: the codes to try for a row without a mass: one that keeps nothing, or has NaN
            or infinity, and keeps as much as the budget allows.
    """
    top = tl.max(tl.max(scores, 0), 0)
    if (top > -float("inf")) & (top < float("inf")):
        part = share.to(tl.int64).to(tl.float64, bitcast=True)
        least = score_of(lowest, dtype)
        block: tl.constexpr = C if dtype == tl.float32 else C // 2
        last, count = last_needed(
            scores, line, bias_k, allowed, mask_k, keys, least, top, part, HAS_MASK, block
        )
        budget = tl.minimum(budget, count)
        lower = code_of(last, dtype)
        upper = lower + 1
    return budget, lower, upper
