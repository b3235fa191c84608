"""Thresholds and cutoffs of rows that fit in registers, with all restrictions of a selection."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import infinity, score_of
from dmask.kernels.triton.instructions import without_nan
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.pairs import pair_bounds, paired
from dmask.kernels.triton.rows import (
    as_float,
    float_keys,
    infinite_places,
    load_narrow,
    tie_places,
    tile_keys,
)
from dmask.kernels.triton.search import find_cutoff, find_threshold, first_pivots, next_hint


@triton.jit
def position(
    query,
    batch,
    keys,
    query_len,
    starts,
    ends,
    start_b,
    start_q,
    end_b,
    end_q,
    CAUSAL: tl.constexpr,
    LIMITS: tl.constexpr,
):
    """Returns the key at the position of a row, the first key that it sees, and the end of those.

    `LIMITS` is `"none"`, `"lengths"` (in `ends`), or `"ranges"`.
    """
    own = query + (keys - query_len)
    start = own * 0
    end = start + keys
    batch = batch.to(tl.int64)
    query += batch * 0  # in 64 bits
    if LIMITS != "none":
        limit = tl.load(ends + batch * end_b + query * end_q)
        limit = tl.maximum(tl.minimum(limit, keys), 0).to(tl.int32)
        end = start + limit
        own = tl.minimum(own, end - 1)
    if LIMITS == "ranges":
        limit = tl.load(starts + batch * start_b + query * start_q)
        start += tl.maximum(tl.minimum(limit, keys), 0).to(tl.int32)
        own = end - 1
    if CAUSAL:
        end = tl.minimum(own + 1, keys)
    return own, start, tl.maximum(end, start)


@triton.jit
def always_kept(key, own, sinks, local, LOCAL: tl.constexpr):
    """Flags the keys that a row always keeps, if their scores are above the floor."""
    # A single return: Triton requires the same type of all returns, and these shapes differ.
    always = key < sinks
    if LOCAL:
        always = always | ((key > own - local) & (key <= own))
    return always


@triton.jit
def load_visible(
    line,
    stride,
    key,
    start,
    end,
    allowed,
    mask_stride,
    HAS_MASK: tl.constexpr,
    FULL: tl.constexpr,
    VEC: tl.constexpr,
):
    """Returns the scores of the keys from `start` to before `end` in their own dtype, -inf for all
    others.

    Loads whole vectors: a mask that ends within one would be loaded key by key.
    """
    stop = (end + (VEC - 1)) // VEC * VEC
    scores = load_narrow(line, stride, key, stop, allowed, mask_stride, HAS_MASK, FULL)
    if FULL:
        return scores
    return tl.where((key >= start) & (key < end), scores, -float("inf"))


@triton.jit
def narrowed(score, dtype: tl.constexpr):
    """Returns a float32 that `dtype` holds as that dtype; a conversion may lose denormals."""
    if dtype == tl.bfloat16:
        bits = score.to(tl.int32, bitcast=True) >> 16
        return bits.to(tl.int16).to(tl.bfloat16, bitcast=True)
    return score.to(dtype)


@triton.jit
def tied_bounds(places, cutoff, beyond, tie):
    """Returns the bounds of a row whose scores tie at its last place."""
    last = tl.max(tl.max(tl.where(places <= cutoff.to(tl.float32), places, -1.0), 0), 0)
    return tie + 0.0, last.to(tl.int32) - beyond


@triton.jit
def untied_bounds(scores, limit, reaching, R: tl.constexpr, C: tl.constexpr):
    """Returns the smallest score that reaches a limit, and the largest key with that score."""
    threshold = tl.min(tl.min(tl.where(scores < limit, float("inf"), scores), 0), 0)
    place = tl.where(scores == threshold, float_keys(reaching, R, C), -1.0)
    last = tl.max(tl.max(place, 0), 0).to(tl.int32) - reaching
    return threshold + 0.0, tl.where(reaching > 0, last, -1)


@triton.jit(
    do_not_specialize=[
        "rows",
        "units",
        "mask_b",
        "mask_h",
        "mask_q",
        "query_len",
        "window",
        "lowest",
        "sinks",
        "local",
    ]
)
def select_rows(
    bias,
    mask,
    starts,
    ends,
    thresholds,
    cutoffs,
    rows,
    heads,
    queries,
    units,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    start_b,
    start_q,
    end_b,
    end_q,
    query_len,
    query_step,
    window,
    lowest,
    sinks,
    local,
    HAS_MASK: tl.constexpr,
    LIMITS: tl.constexpr,
    CAUSAL: tl.constexpr,
    ALWAYS: tl.constexpr,
    LOCAL: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    ALONE: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    FULL: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Writes the threshold and the cutoff of every `query_step`-th query."""
    dtype: tl.constexpr = bias.dtype.element_ty
    keys = multiple(units, VEC)
    first = tl.program_id(0) * ROWS
    key = tile_keys(R, C)
    hint, distance = first * 0, first * 0 - 1
    for i in range(tl.minimum(rows - first, ROWS)):
        row = first + i
        line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
        allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
        own, start, end = position(
            row % queries * query_step,
            row // (queries * heads),
            keys,
            query_len,
            starts,
            ends,
            start_b,
            start_q,
            end_b,
            end_q,
            CAUSAL,
            LIMITS,
        )
        base = own * 0
        if LIMITS == "ranges":  # the tile starts at a range, at the last vector not after it
            base = start // VEC * VEC
            line += base.to(tl.int64) * bias_k
            allowed += base.to(tl.int64) * mask_k
            own, start, end = own - base, start - base, end - base
        scores = load_visible(line, bias_k, key, start, end, allowed, mask_k, HAS_MASK, FULL, VEC)
        budget = window + own * 0
        if ALWAYS:
            always = always_kept(key, own, start + sinks, local, LOCAL)
            eligible = always & ((as_float(scores) < score_of(lowest, dtype)) == 0)
            budget -= tl.sum(tl.sum(eligible.to(tl.int32), 0), 0)
            scores = tl.where(always, -float("inf"), scores)
        scores = paired(scores) if PAIRS else without_nan(as_float(scores))
        threshold, cutoff = score_of(infinity(dtype) + row * 0, dtype), row * 0 - 1
        if budget > 0:
            lower, upper = first_pivots(hint, distance, lowest, dtype)
            low, reaching, beyond = find_threshold(
                scores, budget, lowest, lower, upper, R * C, ALONE, ROWS, dtype
            )
            hint, distance = next_hint(hint, distance, low, lowest)
            if PAIRS:
                threshold, cutoff = pair_bounds(scores, low, reaching, beyond, budget, dtype)
            else:
                tied = reaching > budget
                tie = score_of(low, dtype)
                if tied == 0:
                    threshold, cutoff = untied_bounds(scores, tie, reaching, R, C)
                # NaN became infinity, so a bound at infinity needs the original scores.
                again = (cutoff >= 0) & (threshold == float("inf")) & (tied == 0)
                again |= tied & (low == infinity(dtype))
                if again:
                    scores = load_visible(
                        line, bias_k, key, start, end, allowed, mask_k, HAS_MASK, FULL, VEC
                    )
                    scores = as_float(scores)
                    if ALWAYS:
                        always = always_kept(key, own, start + sinks, local, LOCAL)
                        scores = tl.where(always, -float("inf"), scores)
                    count = tl.minimum(reaching, budget)
                    places, above, reaching = infinite_places(scores, count, reaching, R, C)
                    last = find_cutoff(places, count, above, reaching, keys)
                    # If NaN fills the count, the threshold is NaN; otherwise it is infinity.
                    nans = tl.sum(tl.sum((scores != scores).to(tl.int32), 0), 0)
                    tie = tl.where(nans >= count, float("nan"), float("inf"))
                    threshold, cutoff = tied_bounds(places, last, above, tie)
                elif tied:
                    places = tie_places(scores > tie, scores == tie, beyond, R, C)
                    last = find_cutoff(places, budget, beyond, reaching, keys)
                    threshold, cutoff = tied_bounds(places, last, beyond, tie)
        tl.store(thresholds + row, narrowed(threshold, dtype))
        tl.store(cutoffs + row, tl.where(cutoff < 0, cutoff, cutoff + base))
