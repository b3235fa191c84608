"""The kernels of `block_topk`: pool blocks of keys, choose among them, and write the mask."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import score_of
from dmask.kernels.triton.instructions import without_nan
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.rows import as_float
from dmask.kernels.triton.tiles import load_tile, rows_and_keys


@triton.jit
def code_of_float64(number):
    """Returns an integer that sorts like a float64; the two zeros have one code."""
    bits = tl.where(number == 0.0, 0.0, number).to(tl.int64, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)


@triton.jit(do_not_specialize=["heads", "queries", "keys", "lowest"])
def pool_blocks(
    bias,
    mask,
    codes,
    heads,
    queries,
    keys,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    lowest,
    HAS_MASK: tl.constexpr,
    MEAN: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Writes the codes of the pooled scores of `BLOCKS` blocks of one row."""
    dtype: tl.constexpr = bias.dtype.element_ty
    blocks = tl.cdiv(keys, KEY_BLOCK)
    groups = tl.cdiv(blocks, BLOCKS)
    row, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    bias += row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    mask += row_offset(row, heads, queries, mask_b, mask_h, mask_q)
    block = group * BLOCKS + tl.arange(0, BLOCKS)
    best = tl.full((BLOCKS,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCKS,), tl.float64)
    count = tl.zeros((BLOCKS,), tl.int32)
    for start in range(0, KEY_BLOCK, WIDTH):
        offset = start + tl.arange(0, WIDTH)[None, :]
        # 64 bits: the last block may end beyond 2^31.
        key = block[:, None].to(tl.int64) * KEY_BLOCK + offset
        inside = (key < keys) & (offset < KEY_BLOCK)
        scores = as_float(tl.load(bias + key * bias_k, mask=inside, other=-float("inf")))
        scores = without_nan(scores)
        eligible = inside & (scores >= score_of(lowest, dtype))
        if HAS_MASK:
            eligible = eligible & (tl.load(mask + key * mask_k, mask=inside, other=0) != 0)
        if MEAN:
            total += tl.sum(tl.where(eligible, scores.to(tl.float64), 0.0), 1)
            count += tl.sum(eligible.to(tl.int32), 1)
        else:
            best = tl.maximum(best, tl.max(tl.where(eligible, scores, -float("inf")), 1))
    pooled = best.to(tl.float64)
    if MEAN:
        mean = total / tl.maximum(count, 1).to(tl.float64)
        pooled = tl.where(count > 0, mean, -float("inf"))
    tl.store(
        codes + row.to(tl.int64) * blocks + block, code_of_float64(pooled), mask=block < blocks
    )


@triton.jit(do_not_specialize=["heads", "queries", "keys", "budget"])
def choose_blocks(
    codes,
    chosen,
    heads,
    queries,
    keys,
    code_b,
    code_h,
    code_q,
    budget,
    KEY_BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Marks the `budget` best blocks of a row: its own block first, then the highest codes. Ties go
    to the lowest index.
    """
    blocks = tl.cdiv(keys, KEY_BLOCK)
    row = tl.program_id(0)
    block = tl.arange(0, BLOCKS)
    valid = block < blocks
    pointer = codes + row_offset(row, heads, queries, code_b, code_h, code_q) + block
    code = tl.load(pointer, mask=valid, other=-0x7FFFFFFFFFFFFFFF)
    own = row % queries + (keys - queries)
    code = tl.where((block == own // KEY_BLOCK) & (own >= 0), 0x7FFFFFFFFFFFFFFF, code)
    # At least `budget` codes are >= `low`; fewer than `budget` are > `high`.
    low = tl.min(tl.where(valid, code, 0x7FFFFFFFFFFFFFFF), 0)
    high, reaching = tl.max(code, 0), blocks
    while (reaching != budget) & (low < high):
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)  # rounded up, without overflow
        count = tl.sum((code >= middle).to(tl.int32), 0)
        enough = count >= budget
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
        reaching = tl.where(enough, count, reaching)
    above = code > low
    tied = (code == low) & valid
    need = budget - tl.sum(above.to(tl.int32), 0)
    kept = above | (tied & (tl.cumsum(tied.to(tl.int32), 0) <= need))
    tl.store(chosen + row.to(tl.int64) * blocks + block, kept, mask=valid)


@triton.jit(do_not_specialize=["rows", "units", "mask_b", "mask_h", "mask_q", "lowest"])
def write_blocks(
    bias,
    mask,
    chosen,
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
    lowest,
    HAS_MASK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
):
    """Writes the eligible keys of the chosen blocks."""
    dtype: tl.constexpr = bias.dtype.element_ty
    keys = multiple(units, VEC)
    row, key = rows_and_keys(keys, ROWS, KEYS)
    inside = (row < rows) & (key < keys)
    block = row.to(tl.int64) * tl.cdiv(keys, KEY_BLOCK) + key // KEY_BLOCK
    wanted = inside & (tl.load(chosen + block, mask=inside, other=0) != 0)
    # Scores of blocks that are not chosen are not read.
    scores = load_tile(
        bias,
        mask,
        row,
        key,
        wanted,
        heads,
        queries,
        bias_b,
        bias_h,
        bias_q,
        bias_k,
        mask_b,
        mask_h,
        mask_q,
        mask_k,
        HAS_MASK,
        MASK_VEC,
    )
    # Not `>=`: NaN is kept.
    kept = wanted & ((scores < score_of(lowest, dtype)) == 0)
    tl.store(out + row.to(tl.int64) * keys + key, kept, mask=inside)
