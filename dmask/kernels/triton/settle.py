"""The bounds of a long row, from the notes of its splits: see `splits`.

One program settles a row. It reads the whole row again only if the sample was unlucky, or if scores
tie at infinity, where NaN comes first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.bounds import narrowed, tied_bounds
from dmask.kernels.triton.codes import code_of, code_with_nan, infinity, score_of
from dmask.kernels.triton.kept import bound_of, keeps
from dmask.kernels.triton.layout import row_offset
from dmask.kernels.triton.passes import passing_bounds
from dmask.kernels.triton.rows import (
    as_float,
    bit_count,
    load_scores,
    packed,
    tile_keys,
    tile_places,
)
from dmask.kernels.triton.search import find_cutoff, search
from dmask.kernels.triton.splits import HEAD, WORDS, notes_of


@triton.jit
def key_of_tie(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    split,
    tie,
    place,
    HAS_MASK: tl.constexpr,
    SPLIT: tl.constexpr,
    C: tl.constexpr,
):
    """Returns the `place`-th key of a split whose score is `tie`, or the last one."""
    key = split * SPLIT + tile_keys(SPLIT // C, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    tied = scores == tie
    reached = tied & (tile_places(tied) <= place)
    return tl.max(tl.max(tl.where(reached, key, -1), 0), 0)


@triton.jit
def searched_bounds(scores, key, need, between, low, keys, dtype: tl.constexpr):
    """Returns the bounds of a row whose `need` last keys are among the `between` gathered ones. The
    scores of these are finite and above `low`.
    """
    lowest, largest = low + 1, code_of(tl.max(tl.max(scores, 0), 0), dtype)
    found, reaching, beyond = search(
        scores,
        need,
        lowest,
        lowest,
        largest,
        between,
        need * 0,
        lowest,
        lowest - 1,
        True,
        True,
        dtype,
    )
    tie = score_of(found, dtype)
    if reaching > need:
        # Not shifted by `beyond`: float32 does not hold a larger number than that of the last key.
        place = tl.where(scores == tie, key.to(tl.float32), 3.0e38)
        last = find_cutoff(place, need - beyond, need * 0, reaching - beyond, keys)
        threshold, cutoff = tied_bounds(place, last, need * 0, tie)
    else:
        threshold = tl.min(tl.min(tl.where(scores < tie, float("inf"), scores), 0), 0) + 0.0
        cutoff = tl.max(tl.max(tl.where(scores == threshold, key, -1), 0), 0)
    return threshold, cutoff


@triton.jit
def flags_before(slot, flags, sums, total, N: tl.constexpr):
    """Returns how many flags are set before a slot, given `N` integers of 32 flags, and the sums of
    the flags before each.
    """
    word = slot // 32
    own = tl.load(flags + word, mask=word < N, other=0) & ((1 << (slot % 32)) - 1)
    before = tl.load(sums + word, mask=word < N, other=0)
    return tl.where(word < N, before + bit_count(own), total)


@triton.jit
def kept_between(kept, first, second, words, splits, SPLITS: tl.constexpr, N: tl.constexpr):
    """Writes how many keys each split keeps, given which of the gathered ones are kept.

    The gathered keys of a split stand side by side. The flags of all gathered keys take the place
    of the keys in the notes, so that each split can count its own.
    """
    part, slot = tl.arange(0, SPLITS), tl.arange(0, N)
    flags = words + WORDS * splits
    sums = flags + N
    packed_flags, count, before = packed(kept, N, 32)
    tl.store(flags + slot, packed_flags)
    tl.store(sums + slot, before)
    tl.debug_barrier()
    begin = tl.load(words + 3 * splits + part, mask=part < splits, other=0)
    at_high = second & 0xFFFF
    end = begin + (first >> 16) - at_high
    total = tl.sum(count, 0)
    here = flags_before(end, flags, sums, total, N) - flags_before(begin, flags, sums, total, N)
    here = tl.where(end > begin, here, 0)
    tl.debug_barrier()
    tl.store(words + 3 * splits + part, at_high + here, mask=part < splits)


@triton.jit
def recount(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    threshold,
    cutoff,
    words,
    splits,
    HAS_MASK: tl.constexpr,
    SPLIT: tl.constexpr,
    C: tl.constexpr,
):
    """Writes how many keys each split keeps, by passing over the row."""
    bound = bound_of(threshold, cutoff)
    for split in range(splits):
        key = split * SPLIT + tile_keys(SPLIT // C, C)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        kept = keeps(code_with_nan(scores), bound, cutoff, key)
        tl.store(words + split, tl.sum(tl.sum(kept.to(tl.int32), 0), 0))


@triton.jit(
    do_not_specialize=["units", "splits", "mask_b", "mask_h", "mask_q", "budget", "lowest", "room"]
)
def settle_rows(
    bias,
    mask,
    notes,
    thresholds,
    cutoffs,
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
    budget,
    lowest,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    COUNT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    SPLIT: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Writes the threshold and cutoff of each row; with `COUNT`, also how many keys are kept."""
    keys = units * VEC
    dtype: tl.constexpr = bias.dtype.element_ty
    row = tl.program_id(0)
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + row_offset(row, heads, queries, mask_b, mask_h, mask_q) * MASK_VEC
    note = notes_of(notes, row, splits, room)
    low, high = tl.load(note), tl.load(note + 1)
    part, words = tl.arange(0, SPLITS), note + HEAD
    first = tl.load(words + part, mask=part < splits, other=0)
    second = tl.load(words + splits + part, mask=part < splits, other=0)
    smallest = tl.load(words + 2 * splits + part, mask=part < splits, other=0x7F800000)
    smallest = smallest.to(tl.float32, bitcast=True)
    at_low, above_low = tl.sum(first & 0xFFFF, 0), tl.sum(first >> 16, 0)
    at_high, above_high = tl.sum(second & 0xFFFF, 0), tl.sum(second >> 16, 0)
    minimum, between = tl.min(smallest, 0), above_low - at_high

    # Three cases: many scores are equal to the threshold, which is `low` or `high` (`plateau`); it
    # lies in between (`inside`); or at most `budget` keys are eligible (`few`).
    upper = at_high >= budget
    plateau = (upper & (above_high < budget) & (high < infinity(dtype))) | (
        (upper == 0) & (above_low < budget) & (at_low >= budget) & (low < infinity(dtype))
    )
    inside = (upper == 0) & (above_low >= budget) & (between <= room)
    few = (at_low < budget) & (low <= lowest) & ((minimum < float("inf")) | (at_low == 0))
    if plateau | few:
        pair = tl.where(upper, second, first)
        above = pair >> 16
        ties = (pair & 0xFFFF) - above
        need = budget - tl.sum(above, 0)
        before = tl.cumsum(ties, 0) - ties
        kept = above + tl.minimum(tl.maximum(need - before, 0), ties)
        holds = (before < need) & (need <= before + ties)
        split = tl.sum(tl.where(holds, part, 0), 0)
        place = need - tl.sum(tl.where(holds, before, 0), 0)
        threshold = score_of(tl.where(upper, high, low), dtype)
        if few:
            split = tl.max(tl.where(smallest == minimum, part, 0), 0)
            place, threshold, kept = place * 0 + SPLIT, minimum, first & 0xFFFF
        cutoff = key_of_tie(
            line, bias_k, allowed, mask_k, keys, split, threshold, place, HAS_MASK, SPLIT, C
        )
        cutoff, threshold = tl.where(at_low > 0, cutoff, -1), threshold + 0.0
        if COUNT:
            tl.store(words + 3 * splits + part, kept, mask=part < splits)
    else:
        if inside:
            slot = tile_keys(R, C)
            gathered = note + HEAD + WORDS * splits
            key = tl.load(gathered + slot, mask=slot < between, other=0)
            scores = as_float(
                tl.load(line + key * bias_k, mask=slot < between, other=-float("inf"))
            )
            threshold, cutoff = searched_bounds(
                scores, key, budget - at_high, between, low, keys, dtype
            )
            if COUNT:
                kept = (scores > threshold) | ((scores == threshold) & (key <= cutoff))
                kept = kept & (slot < between)
                kept_between(kept, first, second, words, splits, SPLITS, R * C // 32)
        else:
            threshold, cutoff = passing_bounds(
                line, bias_k, allowed, mask_k, keys, budget, lowest, dtype, HAS_MASK, R, C
            )
            if COUNT:
                recount(
                    line,
                    bias_k,
                    allowed,
                    mask_k,
                    keys,
                    threshold,
                    cutoff,
                    words + 3 * splits,
                    splits,
                    HAS_MASK,
                    SPLIT,
                    C,
                )
    tl.store(thresholds + row, narrowed(threshold, dtype))
    tl.store(cutoffs + row, cutoff)
