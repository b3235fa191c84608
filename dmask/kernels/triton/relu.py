"""Keys with a score above zero, on CUDA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference import relu as reference
from dmask.kernels.triton import layout
from dmask.kernels.triton.codes import score_of
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import broadcast_rows, lowest_code, multiple
from dmask.kernels.triton.tiles import load_tile, programs, rows_and_keys, tile_shape


@triton.jit(do_not_specialize=["rows", "units", "mask_b", "mask_h", "mask_q", "lowest"])
def relu_rows(
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
    lowest,
    HAS_MASK: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
):
    """Writes which scores reach the code `lowest`, NaN included."""
    dtype: tl.constexpr = bias.dtype.element_ty
    keys = multiple(units, VEC)
    row, key = rows_and_keys(keys, ROWS, KEYS)
    inside = (row < rows) & (key < keys)
    scores = load_tile(
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
        HAS_MASK,
        MASK_VEC,
    )
    kept = (scores < score_of(lowest, dtype)) == 0  # not `>=`: NaN is kept
    tl.store(out + row.to(tl.int64) * keys + key, kept, mask=inside)


def relu_mask(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """Same as `reference.relu.relu_mask`, for a 4-D bias."""
    shape = layout.broadcast_shape(bias, allowed)
    if not layout.supports(shape, floor):
        return reference.relu_mask(bias, allowed, floor)
    out = torch.empty(shape, dtype=torch.bool, device=bias.device)
    if not out.numel():
        return out
    rows = broadcast_rows(bias, allowed, shape)
    keys = shape[3]
    tile_rows, tile_keys = tile_shape(keys)
    sizes, strides, constants = rows.geometry.numbers()
    launch(
        "relu_mask",
        relu_rows,
        (programs(rows.total, keys),),
        rows.shape,
        rows.bias,
        rows.mask,
        out,
        rows.total,
        *sizes,
        *strides,
        lowest_code(max(floor, 0.0), bias.dtype),
        **constants,
        ROWS=tile_rows,
        KEYS=tile_keys,
        num_warps=4,
    )
    return out
