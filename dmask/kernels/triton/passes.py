"""The bounds of a row that one program passes over again and again: exact whatever its scores."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import infinity, score_of
from dmask.kernels.triton.instructions import without_nan
from dmask.kernels.triton.rows import load_scores, tile_keys, tile_places
from dmask.kernels.triton.search import barely, count_reaching, guess, narrow, width_of


@triton.jit
def passing_counts(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    lower,
    upper,
    dtype: tl.constexpr,
    HAS_MASK: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Counts the scores of a whole row that reach two codes."""
    at_lower, at_upper = lower * 0, lower * 0
    for start in range(0, keys, R * C):
        key = start + tile_keys(R, C)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        first, second = count_reaching(without_nan(scores), lower, upper, dtype)
        at_lower += first
        at_upper += second
    return at_lower, at_upper


@triton.jit
def passing_bounds(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    budget,
    lowest,
    dtype: tl.constexpr,
    HAS_MASK: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Returns the bounds of a row found by passing over it: exact whatever the scores are."""
    low, high = lowest - 1, lowest * 0 + infinity(dtype)
    reaching, beyond = tl.maximum(keys, budget + 1), budget * 0  # as in `find_threshold`
    thirds = low > high
    while (reaching > budget) & (low < high):
        lower, upper = guess(low, high, reaching, beyond, budget, thirds)
        if low < lowest:
            lower, upper = lowest, tl.maximum(upper, lowest)
        at_lower, at_upper = passing_counts(
            line, bias_k, allowed, mask_k, keys, lower, upper, dtype, HAS_MASK, R, C
        )
        width = width_of(low, high)
        low, high, reaching, beyond = narrow(
            low, high, reaching, beyond, budget, lower, upper, at_lower, at_upper
        )
        thirds = barely(low, high, width) & (thirds == 0)
    kept = tl.minimum(tl.where(low < lowest, beyond, reaching), budget)
    tie = score_of(tl.maximum(low, lowest), dtype)
    # The smallest kept score, how many are above it, and how many NaN there are.
    threshold, nans = score_of(infinity(dtype) + kept * 0, dtype), kept * 0
    for start in range(0, keys, R * C):
        key = start + tile_keys(R, C)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        nans += tl.sum(tl.sum((scores != scores).to(tl.int32), 0), 0)
        number = tl.where(scores >= tie, scores, float("inf"))
        threshold = tl.minimum(threshold, tl.min(tl.min(number, 0), 0))
    only_nan = nans >= kept
    above = tl.where(only_nan, 0, nans)
    for start in range(0, keys, R * C):
        key = start + tile_keys(R, C)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        greater = (scores > threshold) & (only_nan == 0)
        above += tl.sum(tl.sum(greater.to(tl.int32), 0), 0)
    # The key of the tie that is the last to be kept: that with `above` makes up the budget.
    cutoff, need = kept * 0 - 1, kept - above
    for start in range(0, keys, R * C):
        key = start + tile_keys(R, C)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        tied = ((scores == threshold) & (only_nan == 0)) | ((scores != scores) & only_nan)
        count = tl.sum(tl.sum(tied.to(tl.int32), 0), 0)
        if (need > 0) & (count > 0):
            place = tile_places(tied)
            here = tl.max(tl.max(tl.where(tied & (place <= need), key, -1), 0), 0)
            cutoff = tl.maximum(cutoff, here)
        need -= count
    threshold = tl.where(only_nan & (kept > 0), float("nan"), threshold)
    return tl.where(kept > 0, threshold, float("inf")) + 0.0, tl.where(kept > 0, cutoff, -1)
