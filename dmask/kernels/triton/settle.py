"""The bounds of a long row, from the notes of its splits: see `splits`.

A program that settles a row reads all of it again only if the sample was unlucky, or if scores tie
at infinity, where NaN comes first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.bounds import narrowed, tied_bounds
from dmask.kernels.triton.codes import code_of, code_with_nan, infinity, score_of
from dmask.kernels.triton.histogram import histogram
from dmask.kernels.triton.kept import bound_of, keeps
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.passes import passing_bounds
from dmask.kernels.triton.rows import (
    as_float,
    load_scores,
    tile_keys,
    tile_places,
)
from dmask.kernels.triton.search import find_cutoff, search_all
from dmask.kernels.triton.splits import HEAD, WORDS, notes_of, wait_for_last


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
    found, reaching, beyond = search_all(scores, need, lowest, lowest, largest, between, dtype)
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
def kept_per_split(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    splits,
    threshold,
    cutoff,
    HAS_MASK: tl.constexpr,
    SPLIT: tl.constexpr,
    SPLITS: tl.constexpr,
    C: tl.constexpr,
):
    """Counts the keys of each split that a row keeps, by passing over the row."""
    bound, kept = bound_of(threshold, cutoff), tl.zeros([SPLITS], tl.int32)
    for split in range(splits):
        key = split * SPLIT + tile_keys(SPLIT // C, C)
        scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
        flags = keeps(code_with_nan(scores), bound, cutoff, key) & (key < keys)
        count = tl.sum(tl.sum(flags.to(tl.int32), 0), 0)
        kept = tl.where(tl.arange(0, SPLITS) == split, count, kept)
    return kept


@triton.jit
def settled(
    line,
    bias_k,
    allowed,
    mask_k,
    note,
    keys,
    splits,
    room,
    budget,
    lowest,
    dtype: tl.constexpr,
    HAS_MASK: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    SPLIT: tl.constexpr,
    SPLITS: tl.constexpr,
    COUNT: tl.constexpr,
):
    """Returns the threshold and cutoff of a row; with `COUNT`, also how many keys of each split it
    keeps.
    """
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
        earlier = tl.cumsum(ties, 0) - ties
        kept = above + tl.minimum(tl.maximum(need - earlier, 0), ties)
        holds = (earlier < need) & (need <= earlier + ties)
        place = need - tl.sum(tl.where(holds, earlier, 0), 0)
        last = tl.sum(tl.where(holds, part, 0), 0)
        threshold = score_of(tl.where(upper, high, low), dtype)
        if few:
            last = tl.max(tl.where(smallest == minimum, part, 0), 0)
            place, threshold, kept = place * 0 + SPLIT, minimum, first & 0xFFFF
        cutoff = key_of_tie(
            line, bias_k, allowed, mask_k, keys, last, threshold, place, HAS_MASK, SPLIT, C
        )
        cutoff, threshold = tl.where(at_low > 0, cutoff, -1), threshold + 0.0
    elif inside:
        slot = tile_keys(R, C)
        gathered = note + HEAD + WORDS * splits
        key = tl.load(gathered + slot, mask=slot < between, other=keys)
        scores = as_float(tl.load(line + key * bias_k, mask=slot < between, other=-float("inf")))
        threshold, cutoff = searched_bounds(
            scores, key, budget - at_high, between, low, keys, dtype
        )
        kept = second & 0xFFFF
        if COUNT:
            flags = (scores > threshold) | ((scores == threshold) & (key <= cutoff))
            kept += histogram(tl.where(flags, key // SPLIT, -1), SPLITS)
    else:
        threshold, cutoff = passing_bounds(
            line, bias_k, allowed, mask_k, keys, budget, lowest, dtype, HAS_MASK, R, C
        )
        kept = second & 0xFFFF
        if COUNT:
            kept = kept_per_split(
                line,
                bias_k,
                allowed,
                mask_k,
                keys,
                splits,
                threshold,
                cutoff,
                HAS_MASK,
                SPLIT,
                SPLITS,
                C,
            )
    return threshold, cutoff, kept


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
    R: tl.constexpr,
    C: tl.constexpr,
    SPLIT: tl.constexpr,
    SPLITS: tl.constexpr,
    COUNT: tl.constexpr,
    WAITS: tl.constexpr,
):
    """Writes the threshold and cutoff of each row; with `COUNT`, also the last words of splits."""
    wait_for_last(WAITS)
    keys = multiple(units, VEC)
    dtype: tl.constexpr = bias.dtype.element_ty
    row = tl.program_id(0)
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
    note = notes_of(notes, row, splits, room)
    threshold, cutoff, kept = settled(
        line,
        bias_k,
        allowed,
        mask_k,
        note,
        keys,
        splits,
        room,
        budget,
        lowest,
        dtype,
        HAS_MASK,
        R,
        C,
        SPLIT,
        SPLITS,
        COUNT,
    )
    tl.store(thresholds + row, narrowed(threshold, dtype))
    tl.store(cutoffs + row, cutoff)
    if COUNT:
        part = tl.arange(0, SPLITS)
        words = note + HEAD + 2 * splits
        tl.store(words + part, tl.cumsum(kept, 0) - kept, mask=part < splits)
