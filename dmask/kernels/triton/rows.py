"""Loads rows that fit in registers, and writes their results.

A row is a tile `[R, C]` in which each thread holds whole columns, so a thread can count its scores
without others.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.instructions import bit_count


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
    return as_float(load_narrow(bias, stride, key, keys, mask, mask_stride, HAS_MASK, FULL))


@triton.jit
def load_narrow(
    bias, stride, key, keys, mask, mask_stride, HAS_MASK: tl.constexpr, FULL: tl.constexpr
):
    """Returns the scores of a row in their own dtype, -inf where a key is forbidden."""
    if FULL:
        scores = tl.load(bias + key * stride)
    else:
        scores = tl.load(bias + key * stride, mask=key < keys, other=-float("inf"))
    if HAS_MASK:
        if FULL:
            allowed = tl.load(mask + key * mask_stride)
        else:
            allowed = tl.load(mask + key * mask_stride, mask=key < keys, other=0)
        scores = tl.where(allowed != 0, scores, -float("inf"))
    return scores


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
def packed(kept, N: tl.constexpr, BITS: tl.constexpr):
    """Packs the flags of a tile in `N` integers of `BITS` neighboring keys."""
    kept = tl.reshape(kept.to(tl.int32), (N, BITS))
    return tl.sum(kept << tl.arange(0, BITS)[None, :], 1)


@triton.jit
def write_indices(
    out, kept, start, first, width, R: tl.constexpr, C: tl.constexpr, BITS: tl.constexpr
):
    """Writes the kept keys of a tile, ascending.

    Packs the flags of `BITS` neighboring keys into one integer: a prefix sum over all keys would
    take longer, and many registers. With fewer bits, threads write to places that are closer
    together, but more often.

    Args:
        start: the first key of the tile.
        first: how many keys were written before.
        width: how many may be written.
    """
    write_packed(out, packed(kept, R * C // BITS, BITS), start, first, width, BITS)


@triton.jit
def write_packed(out, words, start, first, width, BITS: tl.constexpr):
    """Writes the keys of flags that are packed in integers. Each thread writes the keys of its
    integers, one after another.
    """
    count = bit_count(words)
    before = tl.cumsum(count, 0) - count
    key, place = start + tl.arange(0, words.numel) * BITS, first + before
    for _ in range(tl.max(count, 0)):
        rest = words & (words - 1)
        # All bits below the lowest one.
        below = bit_count((words ^ rest) - 1)
        tl.store(out + place, key + below, mask=(words != 0) & (place < width))
        words, place = rest, place + 1


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
    BITS: tl.constexpr,
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
        write_indices(out, kept, 0, 0, width, R, C, BITS)
        write_tail(out, count, width, C)


@triton.jit
def write_tail(out, count, width, C: tl.constexpr):
    """Writes -1 after `count` indices."""
    for start in range(count // C * C, width, C):
        tail = start + tl.arange(0, C)
        tl.store(out + tail, tail * 0 - 1, mask=(tail >= count) & (tail < width))
