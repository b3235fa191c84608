"""Writes the masks and indices of long rows, split by split: see `splits`."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import code_with_nan
from dmask.kernels.triton.kept import bound_of, keeps
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.rows import load_scores, tile_keys, write_indices
from dmask.kernels.triton.settle import settled
from dmask.kernels.triton.splits import HEAD, notes_of, wait_for_last


@triton.jit
def write_split(
    line,
    bias_k,
    allowed,
    mask_k,
    keys,
    out,
    threshold,
    cutoff,
    start,
    count,
    width,
    HAS_MASK: tl.constexpr,
    OUT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Writes a tile of a row of a mask, or the indices of its kept keys after `count` others.

    Returns:
        How many indices are written.
    """
    key = start + tile_keys(R, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    kept = keeps(code_with_nan(scores), bound_of(threshold, cutoff), cutoff, key)
    if OUT == "mask":
        tl.store(out + key, kept, mask=key < keys)
        return count
    write_indices(out, kept, start, count, width, R, C, 32)
    return count + tl.sum(tl.sum(kept.to(tl.int32), 0), 0)


@triton.jit(
    do_not_specialize=[
        "units",
        "splits",
        "mask_b",
        "mask_h",
        "mask_q",
        "budget",
        "lowest",
        "room",
        "width",
    ]
)
def write_splits(
    bias,
    mask,
    notes,
    thresholds,
    cutoffs,
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
    room,
    budget,
    lowest,
    width,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    OUT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    SPLIT: tl.constexpr,
    SPLITS: tl.constexpr,
    SETTLED: tl.constexpr,
    EACH: tl.constexpr,
    WAITS: tl.constexpr,
):
    """Writes `EACH` splits of a row of a mask, or the indices of their kept keys.

    Args:
        SETTLED: the row is settled. Otherwise each program of the row settles it, which takes no
            longer than if one did and the others waited.
    """
    wait_for_last(WAITS)
    keys = multiple(units, VEC)
    dtype: tl.constexpr = bias.dtype.element_ty
    programs = (splits + EACH - 1) // EACH
    row, split = tl.program_id(0) // programs, tl.program_id(0) % programs * EACH
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
    note = notes_of(notes, row, splits, room)
    if SETTLED:
        threshold, cutoff = tl.load(thresholds + row), tl.load(cutoffs + row)
        count = row * 0
        if OUT == "indices":
            count = tl.load(note + HEAD + 2 * splits + split)
    else:
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
            OUT == "indices",
        )
        count = tl.sum(tl.where(tl.arange(0, SPLITS) < split, kept, 0), 0)
    out += row.to(tl.int64) * (keys if OUT == "mask" else width)
    if EACH == 1:  # a loop over a single split would take registers
        count = write_split(
            line,
            bias_k,
            allowed,
            mask_k,
            keys,
            out,
            threshold,
            cutoff,
            split * SPLIT,
            count,
            width,
            HAS_MASK,
            OUT,
            SPLIT // C,
            C,
        )
    else:
        for start in range(split * SPLIT, tl.minimum((split + EACH) * SPLIT, keys), SPLIT):
            count = write_split(
                line,
                bias_k,
                allowed,
                mask_k,
                keys,
                out,
                threshold,
                cutoff,
                start,
                count,
                width,
                HAS_MASK,
                OUT,
                SPLIT // C,
                C,
            )
    if (OUT == "indices") & (split + EACH >= splits):
        for start in range(count // C * C, width, C):
            tail = start + tl.arange(0, C)
            tl.store(out + tail, tail * 0 - 1, mask=(tail >= count) & (tail < width))
