"""Selections, as thresholds and cutoffs, on CUDA."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from dmask.kernels.reference import select as reference
from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton import layout, long_rows, prefixes, visible
from dmask.kernels.triton.bounds import select_rows
from dmask.kernels.triton.launches import Launch
from dmask.kernels.triton.layout import Restricted, lowest_code, restricted_rows, tile_of


def select(
    inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int
) -> tuple[Tensor, Tensor]:
    """Same as `reference.select.select`, for a 4-D bias."""
    keys = inputs.positions.key_len
    positions = inputs.positions
    plain = inputs.lengths is None and inputs.ranges is None and not positions.is_causal
    plain = plain and not (positions.sinks or positions.local)
    fits = keys <= layout.MAX_KEYS or plain or visible.supports(inputs, math.prod(shape))
    if not (fits and long_rows.supports((*shape, keys), inputs.floor)):
        return reference.select(inputs, shape, window_size)
    threshold = inputs.bias.new_empty(shape)
    cutoff = torch.empty(shape, dtype=torch.int32, device=inputs.bias.device)
    if not keys:
        return torch.full_like(threshold, math.inf), torch.full_like(cutoff, -1)
    if keys > layout.MAX_KEYS:
        if plain and cutoff.numel():
            rows = layout.broadcast_rows(inputs.bias, inputs.allowed, (*shape, keys))
            long_rows.bounds("select", rows, window_size, inputs.floor, threshold, cutoff)
        elif cutoff.numel():
            visible.bounds(inputs, shape, window_size, threshold, cutoff)
    elif cutoff.numel() and prefixes.supports(inputs, shape, window_size):
        some = (*shape[:2], -(-shape[2] // prefixes.STEP))
        starts = inputs.bias.new_empty(some), cutoff.new_empty(some)
        select_short_rows(inputs, some, window_size, *starts, query_step=prefixes.STEP)
        least = starts
        if positions.local:
            least = inputs.bias.new_empty(some), cutoff.new_empty(some)
            more = window_size + prefixes.STEP
            select_short_rows(inputs, some, more, *least, query_step=prefixes.STEP)
        prefixes.follow(inputs, shape, window_size, starts, least, threshold, cutoff)
    elif cutoff.numel():
        select_short_rows(inputs, shape, window_size, threshold, cutoff, query_step=1)
    return threshold, cutoff


def select_short_rows(
    inputs: SelectionInputs,
    shape: tuple[int, int, int],
    window_size: int,
    threshold: Tensor,
    cutoff: Tensor,
    query_step: int,
) -> None:
    """Selects for every `query_step`-th query, in rows of at most `MAX_KEYS` keys."""
    tensors, restricted = restricted_rows(inputs, shape, cutoff)
    launch = _prepared(restricted, window_size, query_step)
    launch(*tensors, threshold, cutoff)


@lru_cache(maxsize=2**12)
def _prepared(
    restricted: Restricted,
    window_size: int,
    query_step: int,
) -> Launch:
    rows, positions = restricted.rows, restricted.positions
    keys, total = rows.shape[3], rows.total
    tile = tile_of(keys, rows.dtype.itemsize, total, rows.device)
    (heads, queries, units), strides, constants = rows.numbers()
    limited = positions.is_causal or restricted.limits.kind != "none"
    window, code = min(window_size, keys), lowest_code(restricted.floor, rows.dtype)
    numbers = (
        *(total, heads, queries, units, *strides, *restricted.limits.strides),
        *(positions.query_len, query_step, window, code, positions.sinks, positions.local),
    )
    return Launch(
        "select",
        rows.shape,
        select_rows,
        (-(-total // tile.rows_each),),
        numbers,
        **constants,
        **restricted.restrictions(),
        R=tile.lines,
        C=tile.columns,
        ROWS=tile.rows_each,
        ALONE=tile.alone,
        FULL=keys == tile.lines * tile.columns and not limited,
        num_warps=tile.warps,
        PAIRS=tile.paired,
        maxnreg=tile.registers("bounds", constants["HAS_MASK"]),
    )
