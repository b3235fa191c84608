"""Lists of blocks, in the format of FlexAttention."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def write_list(
    line, stride, length, whole, number, indices, FULL: tl.constexpr, BLOCK: tl.constexpr
):
    """Lists the partial or the full blocks of one line of counts, and then all others."""
    total = length * 0
    for start in range(0, length, BLOCK):
        place = start + tl.arange(0, BLOCK)
        counts = tl.load(line + place.to(tl.int64) * stride, mask=place < length, other=0)
        listed = counts == whole if FULL else (counts > 0) & (counts != whole)
        total += tl.sum(listed.to(tl.int32), 0)
    tl.store(number, total)
    before = length * 0
    for start in range(0, length, BLOCK):
        place = start + tl.arange(0, BLOCK)
        inside = place < length
        counts = tl.load(line + place.to(tl.int64) * stride, mask=inside, other=0)
        listed = counts == whole if FULL else (counts > 0) & (counts != whole)
        ones = listed.to(tl.int32)
        upto = before + tl.cumsum(ones, 0)
        where = tl.where(listed, upto - 1, total + place - upto)
        tl.store(indices + where, place, mask=inside)
        before += tl.sum(ones, 0)


@triton.jit(do_not_specialize=["rows", "columns", "whole"])
def write_lists(
    counts,
    kv_number,
    kv_indices,
    full_kv_number,
    full_kv_indices,
    q_number,
    q_indices,
    full_q_number,
    full_q_indices,
    rows,
    columns,
    whole,
    BLOCK: tl.constexpr,
):
    """Writes the lists of one row or one column of blocks."""
    lines = rows + columns
    group = (tl.program_id(0) // lines).to(tl.int64)
    line = (tl.program_id(0) % lines).to(tl.int64)
    counts += group * rows * columns
    if line < rows:
        place = group * rows + line
        counts += line * columns
        at = place * columns
        write_list(counts, 1, columns, whole, kv_number + place, kv_indices + at, False, BLOCK)
        write_list(
            counts, 1, columns, whole, full_kv_number + place, full_kv_indices + at, True, BLOCK
        )
    else:
        line -= rows
        place = group * columns + line
        counts += line
        at = place * rows
        write_list(counts, columns, rows, whole, q_number + place, q_indices + at, False, BLOCK)
        write_list(
            counts, columns, rows, whole, full_q_number + place, full_q_indices + at, True, BLOCK
        )
