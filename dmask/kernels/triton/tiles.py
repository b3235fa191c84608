"""Tiles of several rows, for kernels that look at each key by itself."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.layout import row_offset
from dmask.kernels.triton.rows import as_float

TILE = 2**12
"""How many keys a program takes."""
MAX_COLUMNS = 2**11


def tile_shape(keys: int) -> tuple[int, int]:
    """Returns how many rows a program takes, and how many keys of each."""
    columns = min(MAX_COLUMNS, max(16, 1 << (keys - 1).bit_length()))
    return TILE // columns, columns


def programs(rows: int, keys: int) -> int:
    """Returns how many programs take all tiles."""
    lines, columns = tile_shape(keys)
    return -(-rows // lines) * -(-keys // columns)


@triton.jit
def places(keys, ROWS: tl.constexpr, KEYS: tl.constexpr):
    """Returns the rows `[ROWS, 1]` and keys `[1, KEYS]` of a program."""
    wide = tl.cdiv(keys, KEYS)
    program = tl.program_id(0)
    row = program // wide * ROWS + tl.arange(0, ROWS)
    key = program % wide * KEYS + tl.arange(0, KEYS)
    return row[:, None], key[None, :]


@triton.jit
def load_tile(
    bias,
    mask,
    row,
    key,
    inside,
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
    HAS_MASK: tl.constexpr,
    MASK_VEC: tl.constexpr,
):
    """Returns the scores of some keys of some rows, -inf where a key is forbidden or outside."""
    where = row_offset(row, heads, queries, bias_b, bias_h, bias_q) + key.to(tl.int64) * bias_k
    scores = as_float(tl.load(bias + where, mask=inside, other=-float("inf")))
    if HAS_MASK:
        where = row_offset(row, heads, queries, mask_b, mask_h, mask_q) * MASK_VEC
        allowed = tl.load(mask + where + key.to(tl.int64) * mask_k, mask=inside, other=0)
        scores = tl.where(allowed != 0, scores, -float("inf"))
    return scores
