"""Loads rows that fit in registers, and writes their results.

A row is a tile `[R, C]` in which each thread holds whole columns, so a thread can count its scores
without others.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.search import INTERPRETED


@triton.jit
def tile_keys(R: tl.constexpr, C: tl.constexpr):
    """Returns the keys of a tile, in the order of memory."""
    return tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]


@triton.jit
def as_float(scores):
    """Converts scores to float32 exactly. A plain conversion of bfloat16 may lose denormals."""
    if scores.dtype == tl.bfloat16:
        bits = scores.to(tl.int16, bitcast=True).to(tl.int32) << 16
        return bits.to(tl.float32, bitcast=True)
    return scores.to(tl.float32)


@triton.jit
def load_scores(
    bias, stride, key, keys, mask, mask_stride, HAS_MASK: tl.constexpr, FULL: tl.constexpr
):
    """Returns the scores of a row as float32, -inf where a key is forbidden."""
    if FULL:
        scores = as_float(tl.load(bias + key * stride))
    else:
        scores = as_float(tl.load(bias + key * stride, mask=key < keys, other=-float("inf")))
    if HAS_MASK:
        if FULL:
            allowed = tl.load(mask + key * mask_stride)
        else:
            allowed = tl.load(mask + key * mask_stride, mask=key < keys, other=0)
        scores = tl.where(allowed != 0, scores, -float("inf"))
    return scores


@triton.jit
def without_nan(scores):
    """Replaces NaN with infinity, which counts as the largest score. Takes one instruction."""
    if INTERPRETED:  # the interpreter's minimum returns NaN
        return tl.where(scores != scores, float("inf"), scores)
    return tl.minimum(scores, float("inf"))


@triton.jit
def float_keys(start, R: tl.constexpr, C: tl.constexpr):
    """Returns the keys of a tile plus `start` as float32.

    `start` must differ from row to row. Otherwise the compiler holds one tile of keys for all rows
    in registers, which doubles what a program takes. Converts only one line of the tile, because
    conversions run at a quarter of the speed of other instructions.
    """
    lines = (tl.arange(0, R) * C).to(tl.float32)
    return lines[:, None] + (tl.arange(0, C) + start).to(tl.float32)[None, :]


@triton.jit
def tie_places(above, tied, beyond, R: tl.constexpr, C: tl.constexpr):
    """Returns the places for `find_cutoff`: -1 above the tie, key + `beyond` in it."""
    return tl.where(above, -1.0, tl.where(tied, float_keys(beyond, R, C), 3.0e38))


@triton.jit
def infinite_places(scores, budget, reaching, R: tl.constexpr, C: tl.constexpr):
    """Returns the places of a row whose tie is at infinity or NaN, and how many scores are above
    the tie and reach it. NaN ranks before infinity.
    """
    nan = scores != scores
    count = tl.sum(nan.to(tl.int32))
    enough = count >= budget
    beyond = tl.where(enough, 0, count)
    tied = (nan & enough) | ((scores == float("inf")) & (enough == 0))
    places = tie_places(nan & (enough == 0), tied, beyond, R, C)
    return places, beyond, tl.where(enough, count, reaching)


@triton.jit
def tile_places(kept):
    """Returns how many keys of a tile are kept up to and including each key."""
    kept = kept.to(tl.int32)
    total = tl.sum(kept, 1)
    before = tl.cumsum(total, 0) - total
    return tl.cumsum(kept, 1) + before[:, None]


@triton.jit
def store_kept(out, place, key, wanted):
    """Stores keys at places of their own, one store per key.

    The hints are false on purpose. They do no harm: a store is only as wide as the runs of equal
    flags that the compiler can prove, and it can prove none. Without hints, it moves tiles through
    shared memory to a layout of one key per thread, which takes 64 KiB and four times as long.
    """
    where = tl.multiple_of(tl.max_contiguous(out + place, [1, 4]), [1, 16])
    tl.store(where, key, mask=wanted)


@triton.jit
def write_row(
    out,
    kept,
    key,
    keys,
    count,
    width,
    R: tl.constexpr,
    C: tl.constexpr,
    OUT: tl.constexpr,
    FULL: tl.constexpr,
):
    """Writes a row of a mask, or of indices: ascending, then -1."""
    if OUT == "mask":
        if FULL:
            tl.store(out + key, kept)
        else:
            tl.store(out + key, kept, mask=key < keys)
    else:
        place = tile_places(kept) - 1
        store_kept(out, place, key, kept & (place < width))
        for start in range(count // C * C, width, C):
            tail = start + tl.arange(0, C)
            tl.store(out + tail, tail * 0 - 1, mask=(tail >= count) & (tail < width))
