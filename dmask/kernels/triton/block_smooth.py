"""Keeps or drops whole blocks of a finished mask, on CUDA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference import block_smooth as reference
from dmask.kernels.triton import layout
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import row_offset
from dmask.kernels.triton.tiles import block_tile


@triton.jit(do_not_specialize=["heads", "queries", "keys"])
def smooth_blocks(
    mask,
    out,
    heads,
    queries,
    keys,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    SIZE: tl.constexpr,
    BLOCKS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Writes `BLOCKS` blocks of one row: kept if more than half of their keys are."""
    groups = tl.cdiv(tl.cdiv(keys, SIZE), BLOCKS)
    row, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    mask += row_offset(row, heads, queries, mask_b, mask_h, mask_q)
    out += row.to(tl.int64) * keys
    # 64 bits: the last block may end beyond 2^31.
    first = (group * BLOCKS + tl.arange(0, BLOCKS)).to(tl.int64) * SIZE
    count = tl.zeros((BLOCKS,), tl.int32)
    for start in range(0, SIZE, WIDTH):
        offset = start + tl.arange(0, WIDTH)[None, :]
        key = first[:, None] + offset
        inside = (key < keys) & (offset < SIZE)
        kept = tl.load(mask + key * mask_k, mask=inside, other=0)
        count += tl.sum((kept != 0).to(tl.int32), 1)
    whole = count > tl.minimum(keys - first, SIZE) // 2
    for start in range(0, SIZE, WIDTH):
        offset = start + tl.arange(0, WIDTH)[None, :]
        key = first[:, None] + offset
        inside = (key < keys) & (offset < SIZE)
        tl.store(out + key, whole[:, None] & inside, mask=inside)


def block_smooth(mask: Tensor, block_size: int) -> Tensor:
    """Same as `reference.block_smooth.block_smooth`, for a 4-D mask."""
    if not layout.supports(mask.shape, 0.0):
        return reference.block_smooth(mask, block_size)
    out = torch.empty(mask.shape, dtype=torch.bool, device=mask.device)
    if out.numel():
        batch, heads, queries, keys = mask.shape
        size = min(block_size, keys)
        count = -(-keys // size)
        width, blocks_each = block_tile(size, count)
        launch(
            "block_smooth",
            smooth_blocks,
            (batch * heads * queries * -(-count // blocks_each),),
            mask.shape,
            mask,
            out,
            heads,
            queries,
            keys,
            *mask.stride(),
            SIZE=size,
            BLOCKS=blocks_each,
            WIDTH=width,
            num_warps=4,
        )
    return out
