"""Top-k masks on CUDA."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dmask.kernels.reference import topk as reference
from dmask.kernels.triton import layout, long_rows
from dmask.kernels.triton.best_keys import topk_rows
from dmask.kernels.triton.layout import (
    Rows,
    broadcast_rows,
    floor_code,
    launch,
    rows_each,
    tile_of,
)

LOWEST_INDEX = ("2.11",)
"""The releases whose `torch.topk` takes equal scores in index order on CUDA, on all rows tried.
On those, `tie_break="torch"` is the same rule as `"lowest"`.
"""


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """As in `reference.topk`, for a 4-D bias."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)
    asks_torch = tie_break == "torch" and not _takes_lowest_index()
    if asks_torch or floor == math.inf or not long_rows.supports(shape):
        return reference.topk_mask(bias, allowed, window_size, floor, tie_break)
    out = torch.empty(shape, dtype=torch.bool, device=bias.device)
    if out.numel():
        write("topk_mask", broadcast_rows(bias, allowed, shape), out, window_size, floor)
    return out


@lru_cache(maxsize=1)
def _takes_lowest_index() -> bool:
    return ".".join(torch.__version__.split(".")[:2]) in LOWEST_INDEX


def write(op: str, rows: Rows, out: Tensor, window_size: int, floor: float) -> None:
    """Writes a mask or indices."""
    longest = layout.MAX_KEYS if out.dtype is torch.bool else layout.MAX_SCANNED
    way = in_registers if rows.shape[3] <= longest else long_rows.write
    way(op, rows, out, window_size, floor)


def in_registers(
    op: str, rows: Rows, out: Tensor, window_size: int, floor: float, **budget: Any
) -> None:
    """Writes a mask or indices, for rows of at most `MAX_KEYS` keys. `budget`: see `topk_rows`."""
    keys, count = rows.shape[3], rows.total
    lines, columns, warps = tile_of(keys, rows.bias.element_size())
    vector = math.gcd(keys, 16 // rows.bias.element_size())
    each = rows_each(count, out.device)
    unit, mask_strides = rows.mask_units(vector)
    launch(
        op,
        topk_rows,
        (-(-count // each),),
        rows.shape,
        rows.bias,
        rows.mask,
        out,
        count,
        *rows.shape[1:3],
        keys // vector,
        *rows.bias_strides,
        *mask_strides,
        min(window_size, keys),
        window_size,
        floor_code(floor, rows.bias.dtype),
        HAS_MASK=rows.has_mask,
        OUT="mask" if out.dtype is torch.bool else "indices",
        R=lines,
        C=columns,
        ROWS=each,
        VEC=vector,
        MASK_VEC=unit,
        FULL=keys == lines * columns,
        num_warps=warps,
        **budget,
    )
