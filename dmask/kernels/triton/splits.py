"""Kernels for rows that are too long for registers.

A sample of a row gives two numbers between which its threshold lies, but for bad luck. One pass
over the row, split over programs, counts what reaches them and gathers the keys in between: a few
thousand, which fit in registers. Another pass writes the result. So a row is read twice, and
programs of a launch never wait for each other. Where luck was bad (a plateau, more keys in between
than there is room for), one program finds the threshold by passing over the row again and again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.bounds import narrowed, tied_bounds
from dmask.kernels.triton.kept import keeps
from dmask.kernels.triton.layout import row_offset
from dmask.kernels.triton.passes import passing_bounds
from dmask.kernels.triton.rows import (
    as_float,
    load_scores,
    store_kept,
    tile_keys,
    tile_places,
    without_nan,
)
from dmask.kernels.triton.search import (
    count_reaching,
    find_cutoff,
    find_threshold,
    infinity,
    score_of,
)


@triton.jit
def sampled_keys(width, R: tl.constexpr, C: tl.constexpr):
    """Returns one key of each stratum of `width` keys, at a hashed place: no pattern of the scores
    repeats in step with it.
    """
    stratum = tile_keys(R, C)
    hashed = stratum.to(tl.uint32) * 2654435761
    hashed = (hashed ^ (hashed >> 15)) * 2246822519
    return stratum * width + ((hashed >> 8) % width.to(tl.uint32)).to(tl.int32)


@triton.jit(do_not_specialize=["units", "mask_b", "mask_h", "mask_q", "budget", "floor"])
def sample_rows(
    bias,
    mask,
    brackets,
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
    budget,
    floor,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Writes two codes per row that its threshold is likely to lie between, the upper excluded."""
    keys = units * VEC
    dtype: tl.constexpr = bias.dtype.element_ty
    row = tl.program_id(0)
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + row_offset(row, heads, queries, mask_b, mask_h, mask_q) * MASK_VEC
    key = sampled_keys(keys // (R * C), R, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    scores = without_nan(scores)
    share = budget.to(tl.float32) / keys.to(tl.float32)
    rank = share * (R * C)
    # Four standard deviations: one row in ten thousand has to be passed over again.
    margin = 4.0 * tl.sqrt(rank * (1.0 - share)) + 2.0
    more = tl.minimum((rank + margin).to(tl.int32) + 1, R * C)
    fewer = (rank - margin).to(tl.int32)
    low, _, _ = find_threshold(scores, more, floor, floor, tl.maximum(floor, 0), R * C, dtype)
    if more == R * C:
        low = floor
    high = low * 0 + infinity(dtype) + 1
    if fewer > 0:
        high, _, _ = find_threshold(scores, fewer, floor, low, low, R * C, dtype)
        high = tl.maximum(high, low + 1)
    tl.store(brackets + row * 2, low)
    tl.store(brackets + row * 2 + 1, high)


@triton.jit(do_not_specialize=["units", "mask_b", "mask_h", "mask_q", "splits", "room"])
def gather_splits(
    bias,
    mask,
    brackets,
    counts,
    gathered,
    heads,
    queries,
    units,
    splits,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    room,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Counts how many scores of a split reach each end of the bracket, and gathers the keys of
    those in between. Which split comes first is left to chance, and makes no difference.
    """
    keys = units * VEC
    dtype: tl.constexpr = bias.dtype.element_ty
    row, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + row_offset(row, heads, queries, mask_b, mask_h, mask_q) * MASK_VEC
    key = split * (R * C) + tile_keys(R, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    scores = without_nan(scores)
    low, high = tl.load(brackets + row * 2), tl.load(brackets + row * 2 + 1)
    at_low, at_high = count_reaching(scores, low, high, dtype)
    tl.atomic_add(counts + row * 3, at_low)
    tl.atomic_add(counts + row * 3 + 1, at_high)
    if at_low > at_high:
        first = tl.atomic_add(counts + row * 3 + 2, at_low - at_high)
        between = (scores >= score_of(low, dtype)) & ((scores >= score_of(high, dtype)) == 0)
        place = first + tile_places(between, R, C) - 1
        store_kept(gathered + row.to(tl.int64) * room, place, key, between & (place < room))


@triton.jit(do_not_specialize=["units", "mask_b", "mask_h", "mask_q", "budget", "floor", "room"])
def settle_rows(
    bias,
    mask,
    brackets,
    counts,
    gathered,
    thresholds,
    cutoffs,
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
    budget,
    floor,
    room,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Writes the threshold and the cutoff of each row."""
    keys = units * VEC
    dtype: tl.constexpr = bias.dtype.element_ty
    row = tl.program_id(0)
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + row_offset(row, heads, queries, mask_b, mask_h, mask_q) * MASK_VEC
    low, high = tl.load(brackets + row * 2), tl.load(brackets + row * 2 + 1)
    at_low, at_high = tl.load(counts + row * 3), tl.load(counts + row * 3 + 1)
    between = at_low - at_high
    lucky = (at_high < budget) & (at_low >= budget) & (between <= R * C) & (between <= room)
    # NaN and infinity are told apart by passing over the row.
    lucky = lucky & (high <= infinity(dtype))
    if lucky:
        slot = tile_keys(R, C)
        inside = slot < between
        key = tl.load(gathered + row.to(tl.int64) * room + slot, mask=inside, other=0)
        scores = as_float(tl.load(line + key * bias_k, mask=inside, other=-float("inf")))
        need = budget - at_high
        found, reaching, beyond = find_threshold(scores, need, low, low, low, R * C, dtype)
        tie = score_of(found, dtype)
        if reaching > need:
            place = (key + beyond).to(tl.float32)
            place = tl.where(scores > tie, -1.0, tl.where(scores == tie, place, 3.0e38))
            last = find_cutoff(place, need, beyond, reaching, keys)
            threshold, cutoff = tied_bounds(place, last, beyond, tie)
        else:
            threshold = tl.min(tl.min(tl.where(scores < tie, float("inf"), scores), 0), 0) + 0.0
            cutoff = tl.max(tl.max(tl.where(scores == threshold, key, -1), 0), 0)
    else:
        threshold, cutoff = passing_bounds(
            line, bias_k, allowed, mask_k, keys, budget, floor, dtype, HAS_MASK, R, C
        )
    tl.store(thresholds + row, narrowed(threshold, dtype))
    tl.store(cutoffs + row, cutoff)


@triton.jit(do_not_specialize=["units", "mask_b", "mask_h", "mask_q", "splits", "width"])
def write_splits(
    bias,
    mask,
    thresholds,
    cutoffs,
    counts,
    out,
    heads,
    queries,
    units,
    splits,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    width,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    OUT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Writes a split of a mask; or counts its kept keys; or writes their indices after those of
    the splits before.
    """
    keys = units * VEC
    row, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + row_offset(row, heads, queries, mask_b, mask_h, mask_q) * MASK_VEC
    key = split * (R * C) + tile_keys(R, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    threshold = as_float(tl.load(thresholds + row))
    kept = keeps(scores, threshold, tl.load(cutoffs + row), key)
    if OUT == "mask":
        tl.store(out + row.to(tl.int64) * keys + key, kept, mask=key < keys)
    elif OUT == "count":
        total = tl.sum(tl.sum(kept.to(tl.int32), 0), 0)
        tl.store(counts + row * splits + split, total)
    else:
        part = tl.arange(0, SPLITS)
        some = tl.load(counts + row * splits + part, mask=part < splits, other=0)
        first = tl.sum(tl.where(part < split, some, 0), 0)
        out += row.to(tl.int64) * width
        place = first + tile_places(kept, R, C) - 1
        store_kept(out, place, key, kept & (place < width))
        if split == splits - 1:
            total = tl.sum(some, 0)
            for start in range(total // C * C, width, C):
                tail = start + tl.arange(0, C)
                tl.store(out + tail, tail * 0 - 1, mask=(tail >= total) & (tail < width))
