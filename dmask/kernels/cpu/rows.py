"""Applies the selection rule row by row, in functions that Numba compiles.

Scores are passed as the bits of floats and ranked as codes (see `codes`). A forbidden key gets the
lowest code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmask.kernels.cpu.broadcast import BroadcastRows, RowBounds, location
from dmask.kernels.cpu.codes import Limits
from dmask.kernels.cpu.loops import (
    Array,
    Flags,
    compiled,
    count_from,
    encode,
    forbid,
    keep_above,
    keep_from,
    last_kept,
    least_from,
)
from dmask.kernels.cpu.search import SearchHint, find_threshold

_location = compiled(location)


@compiled
def mask_rows(
    sizes: tuple[int, int],
    score_bits: BroadcastRows,
    mask: BroadcastRows,
    window_size: int,
    limits: Limits,
    lowest_index_wins: bool,
    kept: Flags,
    tied: Flags,
    start: int,
    stop: int,
) -> None:
    """Writes the top-k masks of the rows from `start` to before `stop`.

    Args:
        sizes: the numbers of heads and queries.
        lowest_index_wins: breaks ties at the last rank in favor of the lowest indices. If False,
            all tied keys are kept.
        kept: `[rows, Lk]`.
        tied: `[rows]`: True for rows with such ties.
    """
    codes = np.empty(score_bits.rows.shape[1], score_bits.rows.dtype)
    hint = SearchHint(limits.floor, 0)
    for row in range(start, stop):
        encode_row(row, sizes, score_bits, mask, limits.infinity, 0, codes)
        threshold, reaching, hint = find_threshold(codes, window_size, limits.floor, hint)
        tied[row] = reaching > window_size
        end, marks = len(codes), kept[row]
        if tied[row] and lowest_index_wins:
            end = last_kept(codes, threshold, reaching - window_size) + 1
        keep_from(codes[:end], threshold, marks[:end])
        keep_above(codes[end:], threshold, marks[end:])


@compiled
def count_tied(
    chosen: NDArray[np.int64],
    sizes: tuple[int, int],
    score_bits: BroadcastRows,
    mask: BroadcastRows,
    window_size: int,
    limits: Limits,
) -> int:
    """Returns the number of chosen rows in which scores tie at the last rank."""
    codes = np.empty(score_bits.rows.shape[1], score_bits.rows.dtype)
    hint, count = SearchHint(limits.floor, 0), 0
    for row in chosen:
        encode_row(row, sizes, score_bits, mask, limits.infinity, 0, codes)
        _, reaching, hint = find_threshold(codes, window_size, limits.floor, hint)
        count += reaching > window_size
    return count


@compiled
def select_rows(
    sizes: tuple[int, int],
    score_bits: BroadcastRows,
    mask: BroadcastRows,
    row_bounds: RowBounds,
    window_size: int,
    limits: Limits,
    thresholds: Array,
    cutoffs: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Writes `thresholds`, as codes, and `cutoffs` of the rows from `start` to before `stop`."""
    heads, queries = sizes
    codes = np.empty(score_bits.rows.shape[1], score_bits.rows.dtype)
    hint = SearchHint(limits.floor, 0)
    for row in range(start, stop):
        batch, query = row // (heads * queries), row % queries
        begin, end = row_bounds.starts[batch, query], row_bounds.ends[batch, query]
        visible = codes[begin:end]
        encode_row(row, sizes, score_bits, mask, limits.infinity, begin, visible)
        first, stop = local_keys(row_bounds, batch, query)
        budget = window_size - _take(visible[: row_bounds.sinks], limits.floor)
        budget -= _take(codes[first:stop], limits.floor)
        thresholds[row], cutoff, hint = _bounds(visible, budget, limits, hint)
        cutoffs[row] = cutoff if cutoff < 0 else begin + cutoff


@compiled
def local_keys(row_bounds: RowBounds, batch: int, query: int) -> tuple[int, int]:
    """Returns the first and end index of the local keys that are not sinks."""
    own, end = row_bounds.own[batch, query], row_bounds.ends[batch, query]
    begin = row_bounds.starts[batch, query] + row_bounds.sinks
    first = min(max(own - row_bounds.local + 1, begin), end)
    return first, max(min(own + 1, end), first)


@compiled
def encode_row(
    row: int,
    sizes: tuple[int, int],
    score_bits: BroadcastRows,
    mask: BroadcastRows,
    infinity: int,
    begin: int,
    codes: Array,
) -> None:
    """Writes the codes of a row from key `begin` on, as many as `codes` holds."""
    end = begin + len(codes)
    encode(score_bits.rows[_location(row, sizes, score_bits.strides)][begin:end], infinity, codes)
    if mask.rows.size:
        forbid(codes, mask.rows[_location(row, sizes, mask.strides)][begin:end])


@compiled
def _take(codes: Array, floor: int) -> int:
    """Excludes keys from the ranking. Returns how many of them were above the floor."""
    count = count_from(codes, floor + 1)
    codes[:] = np.iinfo(codes.dtype).min
    return count


@compiled
def _bounds(
    codes: Array, budget: int, limits: Limits, hint: SearchHint
) -> tuple[int, int, SearchHint]:
    """Returns the smallest kept code, the last index at which an equal code is kept, and the hint
    for the next row.
    """
    if budget == 0:
        return limits.infinity, -1, hint
    least, reaching, hint = find_threshold(codes, budget, limits.floor, hint)
    if not reaching:
        return limits.infinity, -1, hint
    threshold = least_from(codes, least)
    return threshold, last_kept(codes, threshold, max(reaching - budget, 0)), hint
