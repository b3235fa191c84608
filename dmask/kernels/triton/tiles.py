"""Tiles of several rows, for kernels that process each key independently."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.layout import multiple, power_of_2, row_offset
from dmask.kernels.triton.rows import as_float

TILE = 2**12
"""How many keys a program processes."""
MAX_KEYS = 2**11
"""How many keys of one row, at most."""


def tile_shape(keys: int) -> tuple[int, int]:
    """Returns how many rows a program processes, and how many keys of each."""
    tile_keys = min(MAX_KEYS, max(16, power_of_2(keys)))
    return max(1, TILE // tile_keys), tile_keys


def block_tile(block_size: int, blocks: int) -> tuple[int, int]:
    """Returns how many keys of a block a program loads at once, and how many blocks it processes.

    Args:
        blocks: the number of blocks of a row.
    """
    width = min(TILE, max(2, power_of_2(block_size)))
    return width, min(max(1, TILE // width), power_of_2(blocks))


def programs(rows: int, keys: int) -> int:
    """Returns the number of programs that cover all rows."""
    tile_rows, tile_keys = tile_shape(keys)
    return -(-rows // tile_rows) * -(-keys // tile_keys)


@triton.jit
def rows_and_keys(keys, ROWS: tl.constexpr, KEYS: tl.constexpr):
    """Returns the rows `[ROWS, 1]` and keys `[1, KEYS]` of a program."""
    per_row = tl.cdiv(keys, KEYS)
    program = tl.program_id(0)
    row = program // per_row * ROWS + tl.arange(0, ROWS)
    key = program % per_row * KEYS + tl.arange(0, KEYS)
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
    """Returns the scores of some keys of some rows, -inf where a key is forbidden or outside.

    The strides of the mask are in units of `MASK_VEC` elements, except that of keys.
    """
    offset = row_offset(row, heads, queries, bias_b, bias_h, bias_q) + key.to(tl.int64) * bias_k
    scores = as_float(tl.load(bias + offset, mask=inside, other=-float("inf")))
    if HAS_MASK:
        offset = multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
        offset += key.to(tl.int64) * mask_k
        allowed = tl.load(mask + offset, mask=inside, other=0)
        scores = tl.where(allowed != 0, scores, -float("inf"))
    return scores
