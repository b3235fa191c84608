"""Whole blocks of keys by pooled score, on CUDA."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference import block_topk as reference
from dmask.kernels.triton import layout
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import Rows, broadcast_rows, lowest_code, power_of_2
from dmask.kernels.triton.pooled import choose_blocks, pool_blocks, write_blocks
from dmask.kernels.triton.tiles import block_tile, programs, tile_shape

MAX_BLOCKS = 2**13
"""The most blocks of a row that a program chooses among."""


def block_topk_mask(
    bias: Tensor,
    allowed: Tensor | None,
    floor: float,
    window_size: int,
    key_block: int,
    pool: str,
    query_len: int,
) -> Tensor:
    """Same as `reference.block_topk.block_topk_mask`, for a 4-D bias.

    Means are sums of float64, as in the reference, but in a different order: blocks whose means
    differ by rounding alone may rank otherwise. No sum is rounded of up to 2^13 scores of float16,
    or of scores whose magnitudes differ by a factor of less than `2**28 / key_block`.
    """
    shape = layout.broadcast_shape(bias, allowed)
    keys = shape[3]
    key_block = min(key_block, max(keys, 1))
    blocks = -(-keys // key_block)
    full = (*shape[:2], query_len, keys)
    if blocks > MAX_BLOCKS or not layout.supports(full, floor):
        return reference.block_topk_mask(
            bias, allowed, floor, window_size, key_block, pool, query_len
        )
    out = torch.empty(full, dtype=torch.bool, device=bias.device)
    if out.numel():
        codes = torch.empty((*shape[:3], blocks), dtype=torch.int64, device=bias.device)
        chosen = torch.empty((*full[:3], blocks), dtype=torch.bool, device=bias.device)
        lowest = lowest_code(floor, bias.dtype)
        _pool(broadcast_rows(bias, allowed, shape), codes, lowest, key_block, pool)
        budget = min(max(window_size // key_block, 1), blocks)
        _choose(codes, chosen, keys, budget, key_block)
        _write(broadcast_rows(bias, allowed, full), chosen, out, lowest, key_block)
    return out


def _pool(rows: Rows, codes: Tensor, lowest: int, key_block: int, pool: str) -> None:
    width, blocks_each = block_tile(key_block, codes.shape[3])
    launch(
        "block_topk_mask",
        pool_blocks,
        (rows.total * -(-codes.shape[3] // blocks_each),),
        rows.shape,
        rows.bias,
        rows.mask,
        codes,
        *rows.shape[1:],
        *rows.bias_strides,
        *rows.mask_strides,
        lowest,
        HAS_MASK=rows.has_mask,
        MEAN=pool == "mean",
        KEY_BLOCK=key_block,
        BLOCKS=blocks_each,
        WIDTH=width,
        num_warps=4,
    )


def _choose(codes: Tensor, chosen: Tensor, keys: int, budget: int, key_block: int) -> None:
    pooled = broadcast_rows(codes, None, tuple(chosen.shape))
    blocks = max(32, power_of_2(codes.shape[3]))
    launch(
        "block_topk_mask",
        choose_blocks,
        (pooled.total,),
        (*chosen.shape[:3], keys),
        codes,
        chosen,
        *chosen.shape[1:3],
        keys,
        *pooled.bias_strides[:3],
        budget,
        KEY_BLOCK=key_block,
        BLOCKS=blocks,
        num_warps=max(1, min(16, blocks // 512)),
    )


def _write(rows: Rows, chosen: Tensor, out: Tensor, lowest: int, key_block: int) -> None:
    keys = rows.shape[3]
    tile_rows, tile_keys = tile_shape(keys)
    sizes, strides, constants = rows.geometry.numbers()
    launch(
        "block_topk_mask",
        write_blocks,
        (programs(rows.total, keys),),
        rows.shape,
        rows.bias,
        rows.mask,
        chosen,
        out,
        rows.total,
        *sizes,
        *strides,
        lowest,
        **constants,
        KEY_BLOCK=key_block,
        ROWS=tile_rows,
        KEYS=tile_keys,
        num_warps=4,
    )
