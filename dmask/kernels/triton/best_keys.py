"""The best keys of rows that fit in registers: load once, search, write.

A program takes several rows one after another and starts each search at the threshold of the row
before, as neighboring rows are often alike.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.budgets import share_of_keys
from dmask.kernels.triton.codes import infinity, score_of
from dmask.kernels.triton.instructions import without_nan
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.masses import share_of_mass
from dmask.kernels.triton.pairs import best_bytes, paired, write_bytes
from dmask.kernels.triton.rows import (
    infinite_places,
    load_narrow,
    load_scores,
    tie_places,
    tile_keys,
    write_row,
)
from dmask.kernels.triton.search import find_cutoff, find_threshold, first_pivots, next_hint


@triton.jit(
    do_not_specialize=[
        "rows",
        "units",
        "mask_b",
        "mask_h",
        "mask_q",
        "budget",
        "width",
        "lowest",
        "share",
    ]
)
def topk_rows(
    bias,
    mask,
    out,
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
    budget,
    width,
    lowest,
    share,
    HAS_MASK: tl.constexpr,
    OUT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    ALONE: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    FULL: tl.constexpr,
    PAIRS: tl.constexpr,
    BUDGET: tl.constexpr,
):
    """Writes the mask, or `width` indices, of the best keys of each row.

    These are `budget` keys, or fewer by the share of a row that `BUDGET` names (`budgets`).

    A row has `units * VEC` keys, and the strides of the given mask come in units of `MASK_VEC`.
    """
    dtype: tl.constexpr = bias.dtype.element_ty
    keys = multiple(units, VEC)
    first = tl.program_id(0) * ROWS
    key = tile_keys(R, C)
    hint, distance = first * 0, first * 0 - 1
    for i in range(tl.minimum(rows - first, ROWS)):
        row = first + i
        line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
        allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
        if PAIRS:
            scores = load_narrow(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, FULL)
            scores = paired(scores)
        else:
            scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, FULL)
            scores = without_nan(scores)
        lower, upper = first_pivots(hint, distance, lowest, dtype)
        most = budget
        if BUDGET == "ratio":
            most = tl.minimum(most, share_of_keys(scores, lowest, share, dtype))
        if BUDGET == "mass":
            scores = tl.where(scores >= score_of(lowest, dtype), scores, -float("inf"))
            most, lower, upper = share_of_mass(
                scores,
                line,
                bias_k,
                allowed,
                mask_k,
                keys,
                most,
                lowest,
                share,
                lower,
                upper,
                dtype,
                HAS_MASK,
                C,
            )
        low, reaching, beyond = find_threshold(
            scores, most, lowest, lower, upper, R * C, ALONE, ROWS, dtype
        )
        hint, distance = next_hint(hint, distance, low, lowest)
        count = tl.minimum(reaching, most)
        stride = keys if OUT == "mask" else width
        target = out + row.to(tl.int64) * stride
        if PAIRS:
            flags = best_bytes(scores, low, reaching, beyond, most, dtype)
            write_bytes(target, flags, units, count, width, C, OUT, FULL)
        elif reaching > most:
            if low == infinity(dtype):
                scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, FULL)
                places, beyond, reaching = infinite_places(scores, most, reaching, R, C)
            else:
                tie = score_of(low, dtype)
                places = tie_places(scores > tie, scores == tie, beyond, R, C)
            cutoff = find_cutoff(places, most, beyond, reaching, keys)
            kept = places <= cutoff.to(tl.float32)
            write_row(target, kept, key, keys, count, width, R, C, BITS, OUT, FULL)
        else:
            kept = (scores < score_of(low, dtype)) == 0
            write_row(target, kept, key, keys, count, width, R, C, BITS, OUT, FULL)
