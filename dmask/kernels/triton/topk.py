"""Top-k masks on CUDA."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dmask.kernels.reference import topk as reference
from dmask.kernels.triton import layout, long_rows
from dmask.kernels.triton.best_keys import topk_rows
from dmask.kernels.triton.launches import Launch
from dmask.kernels.triton.layout import Geometry, Rows, broadcast_rows, lowest_code, tile_of

LOWEST_INDEX = ("2.11",)
"""Releases in which `torch.topk` on CUDA broke ties by the lowest index, in all rows tried. There,
`tie_break="torch"` and `"lowest"` are the same rule.
"""


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """Same as `reference.topk.topk_mask`, for a 4-D bias."""
    shape = layout.broadcast_shape(bias, allowed)
    asks_torch = tie_break == "torch" and not _takes_lowest_index()
    if asks_torch or not long_rows.supports(shape, floor):
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
    way = write_short_rows if rows.shape[3] <= layout.MAX_KEYS else long_rows.write
    way(op, rows, out, window_size, floor)


def write_short_rows(
    op: str,
    rows: Rows,
    out: Tensor,
    window_size: int,
    floor: float,
    share: int = 0,
    budget_rule: str = "given",
) -> None:
    """Writes a mask or indices, for rows of at most `MAX_KEYS` keys.

    Args:
        share, budget_rule: `share` and `BUDGET` of `topk_rows`.
    """
    masks = out.dtype is torch.bool
    launch = _prepared(op, rows.geometry, masks, window_size, floor, share, budget_rule)
    launch(rows.bias, rows.mask, out)


@lru_cache(maxsize=2**12)
def _prepared(
    op: str,
    rows: Geometry,
    masks: bool,
    window_size: int,
    floor: float,
    share: int,
    budget_rule: str,
) -> Launch:
    keys, count = rows.shape[3], rows.total
    pairs = budget_rule != "mass"  # its sums need every score as a float
    tile = tile_of(keys, rows.dtype.itemsize, count, rows.device, pairs)
    sizes, strides, constants = rows.numbers()
    window, out = min(window_size, keys), "mask" if masks else "indices"
    return Launch(
        op,
        rows.shape,
        topk_rows,
        (-(-count // tile.rows_each),),
        (count, *sizes, *strides, window, window_size, lowest_code(floor, rows.dtype), share),
        **constants,
        BUDGET=budget_rule,
        OUT=out,
        R=tile.lines,
        C=tile.columns,
        BITS=tile.vector,
        ROWS=tile.rows_each,
        ALONE=tile.alone,
        PAIRS=tile.paired,
        FULL=keys == tile.lines * tile.columns,
        num_warps=tile.warps,
        maxnreg=tile.registers(out, constants["HAS_MASK"]),
    )
