"""What a selection keeps, row by row, in functions that Numba compiles.

`mark_row` flags the kept keys of a row with comparisons that become vector instructions. A mask
takes the flags as they are; indices and counts per block are made from them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.cpu import codes as coding
from dmask.kernels.cpu.broadcast import (
    NO_MASK,
    BroadcastRows,
    RowBounds,
    broadcast_rows,
    location,
    row_bounds,
)
from dmask.kernels.cpu.codes import Limits
from dmask.kernels.cpu.loops import (
    Array,
    Flags,
    add_flags,
    also_keep_above,
    compiled,
    encode,
    keep_above,
    keep_allowed,
    keep_from,
)
from dmask.kernels.cpu.rows import local_keys
from dmask.kernels.reference.select import SelectionInputs

_location = compiled(location)


class KeptRows(NamedTuple):
    """A selection in the form that the loops take."""

    sizes: tuple[int, int]
    """The numbers of heads and queries."""
    score_bits: BroadcastRows
    mask: BroadcastRows
    row_bounds: RowBounds
    limits: Limits
    thresholds: Array
    """The code of each row's threshold."""
    cutoffs: NDArray[np.int32]


def kept_rows(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor) -> KeptRows:
    """Returns the rows `[B, H, Lq]` of a selection."""
    keys = inputs.positions.key_len
    batch, heads, queries = threshold.shape
    allowed = inputs.allowed
    limits = coding.limits_of(inputs.floor, inputs.bias.dtype)
    cutoffs = cutoff.numpy().reshape(-1)
    thresholds = coding.codes_of(threshold, limits.infinity)
    # A row that keeps no key by its score: no code is above the highest one, that of NaN.
    none = (cutoffs < 0) & (thresholds == limits.infinity)
    thresholds[none] = np.iinfo(thresholds.dtype).max
    return KeptRows(
        (heads, queries),
        broadcast_rows(coding.bits(inputs.bias), keys),
        NO_MASK if allowed is None else broadcast_rows(allowed, keys),
        row_bounds(inputs, (batch, heads, queries)),
        limits,
        thresholds,
        cutoffs,
    )


@compiled
def mark_row(
    row: int, kept: KeptRows, last: int, codes: Array, flags: Flags
) -> tuple[int, int, int]:
    """Flags the kept keys of a row.

    Args:
        last: the location of the scores whose codes are in `codes`, or -1.

    Returns:
        The first visible key and the end of those, between which there are flags, and the new
        location.
    """
    heads, queries = kept.sizes
    batch, query = row // (heads * queries), row % queries
    begin, end = kept.row_bounds.starts[batch, query], kept.row_bounds.ends[batch, query]
    here = _location(row, kept.sizes, kept.score_bits.strides)
    if kept.score_bits.strides[2]:
        encode(kept.score_bits.rows[here][begin:end], kept.limits.infinity, codes[begin:end])
    elif here != last:
        encode(kept.score_bits.rows[here], kept.limits.infinity, codes)
    threshold, floor = kept.thresholds[row], kept.limits.floor
    split = min(max(kept.cutoffs[row] + 1, begin), end)
    keep_from(codes[begin:split], threshold, flags[begin:split])
    keep_above(codes[split:end], threshold, flags[split:end])
    if kept.row_bounds.sinks or kept.row_bounds.local:
        sinks = min(begin + kept.row_bounds.sinks, end)
        also_keep_above(codes[begin:sinks], floor, flags[begin:sinks])
        first, stop = local_keys(kept.row_bounds, batch, query)
        also_keep_above(codes[first:stop], floor, flags[first:stop])
    if kept.mask.rows.size:
        allowed = kept.mask.rows[_location(row, kept.sizes, kept.mask.strides)]
        keep_allowed(allowed[begin:end], flags[begin:end])
    return begin, end, here


@compiled
def write_mask(kept: KeptRows, out: Flags, start: int, stop: int) -> None:
    """Writes the masks `[rows, Lk]` of the rows from `start` to before `stop`."""
    codes = np.empty(out.shape[1], kept.score_bits.rows.dtype)
    last = -1
    for row in range(start, stop):
        begin, end, last = mark_row(row, kept, last, codes, out[row])
        out[row, :begin] = False
        out[row, end:] = False


@compiled
def write_indices(kept: KeptRows, out: NDArray[np.int32], start: int, stop: int) -> None:
    """Writes the kept keys `[rows, width]` of rows, ascending, then -1."""
    keys = kept.score_bits.rows.shape[1]
    codes, flags = np.empty(keys, kept.score_bits.rows.dtype), np.empty(keys, np.bool_)
    last = -1
    for row in range(start, stop):
        begin, end, last = mark_row(row, kept, last, codes, flags)
        _list(flags, begin, end, out[row])


@compiled
def list_rows(flags: Flags, out: NDArray[np.int32], start: int, stop: int) -> None:
    """Writes the flagged keys `[rows, width]` of rows `[rows, Lk]`, ascending, then -1."""
    for row in range(start, stop):
        _list(flags[row], 0, flags.shape[1], out[row])


@compiled
def _list(flags: Flags, begin: int, end: int, indices: NDArray[np.int32]) -> None:
    """Writes the flagged keys from `begin` to `end`. Every key is written, and those without a flag
    are overwritten: there is no branch to predict.
    """
    place, width = 0, len(indices)
    key = begin
    while key < end and place < width:
        indices[place] = key
        place += flags[key]
        key += 1
    indices[place:] = -1


@compiled
def count_blocks(
    kept: KeptRows,
    block_size: tuple[int, int],
    counts: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Writes how many keys each block keeps, `[B * H * nq, nk]`, for some rows of blocks."""
    keys, queries = kept.score_bits.rows.shape[1], kept.sizes[1]
    codes, flags = np.empty(keys, kept.score_bits.rows.dtype), np.empty(keys, np.bool_)
    totals = np.empty(keys, np.int32)
    query_block, key_block = block_size
    high = -(-queries // query_block)
    last = -1
    for line in range(start, stop):
        totals[:] = 0
        group, first = line // high, line % high * query_block
        for query in range(first, min(first + query_block, queries)):
            begin, end, last = mark_row(group * queries + query, kept, last, codes, flags)
            add_flags(flags[begin:end], totals[begin:end])
        for block in range(counts.shape[1]):
            counts[line, block] = totals[block * key_block : (block + 1) * key_block].sum()


# ------------------------------------------------------------------ indices to masks


@compiled
def mark_named(
    indices: NDArray[np.int64],
    size: int,
    count: int,
    out: Flags,
    largest: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Writes the mask `[rows, Lk]` of the keys, or blocks of `size` keys, that indices name.

    Args:
        count: the number of keys or blocks.
        largest: `[rows]`, to return the largest index of each row.
    """
    for row in range(start, stop):
        marks, most = out[row], -1
        marks[:] = False
        for index in indices[row]:
            most = max(most, index)
            if 0 <= index < count:
                if size == 1:
                    marks[np.uint64(index)] = True
                else:
                    marks[index * size : (index + 1) * size] = True
        largest[row] = most
