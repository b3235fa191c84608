"""Converts tensors for the compiled loops: distinct rows, and strides to find a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs


class BroadcastRows(NamedTuple):
    """The distinct rows of a tensor that broadcasts to `[B, H, Lq, Lk]`."""

    rows: NDArray[Any]
    """`[n, Lk]`, contiguous."""
    strides: tuple[int, int, int]
    """The distance in rows to the next batch entry, head and query: 0 if they share a row."""


NO_MASK = BroadcastRows(np.empty((0, 0), np.bool_), (0, 0, 0))
"""No mask: every key is allowed."""


def location(row: Any, sizes: tuple[int, int], strides: tuple[int, int, int]) -> Any:
    """Returns the location of the distinct row for a row (or an array of rows) of the result.

    `sizes` are the numbers of heads and queries. `rows` also compiles this function.
    """
    heads, queries = sizes
    batch, head, query = row // (heads * queries), row // queries % heads, row % queries
    return batch * strides[0] + head * strides[1] + query * strides[2]


def broadcast_rows(tensor: Tensor, keys: int) -> BroadcastRows:
    """Returns the distinct rows of a 4-D tensor whose last dimension is `keys` or 1."""
    for dim in range(3):
        if tensor.stride(dim) == 0 and tensor.shape[dim]:
            tensor = tensor.narrow(dim, 0, 1)  # an expanded dimension repeats one row
    batches, heads, queries, own_keys = tensor.shape
    if own_keys != keys:
        tensor = tensor.expand(-1, -1, -1, keys)
    rows = tensor.reshape(batches * heads * queries, keys)
    if rows.requires_grad:  # numpy() rejects tensors that require grad, even in no_grad mode
        rows = rows.detach()
    strides = (
        0 if batches == 1 else heads * queries,
        0 if heads == 1 else queries,
        0 if queries == 1 else 1,
    )
    return BroadcastRows(rows.numpy(), strides)


def take_rows(source: BroadcastRows, rows: NDArray[np.int64], sizes: tuple[int, int]) -> Tensor:
    """Copies the source rows `[n, Lk]` of the given rows of the result."""
    locations = torch.from_numpy(location(rows, sizes, source.strides))
    return torch.from_numpy(source.rows).index_select(0, locations)


class RowBounds(NamedTuple):
    """The visible and always-kept keys of each row, determined by position alone."""

    own: NDArray[np.int64]
    """`[B, Lq]`: the key at the position of a row."""
    starts: NDArray[np.int64]
    """`[B, Lq]`: the first key that a row sees."""
    ends: NDArray[np.int64]
    """`[B, Lq]`: the end of the keys that a row sees, not before `starts`."""
    sinks: int
    """The number of first visible keys that every row keeps."""
    local: int
    """The number of keys up to its position that a row always keeps."""


def row_bounds(inputs: SelectionInputs, shape: tuple[int, int, int]) -> RowBounds:
    """Returns the bounds of the rows `[B, H, Lq]` of a selection."""
    positions, keys = inputs.positions, inputs.positions.key_len
    batch, _, queries = shape
    limits = None if inputs.lengths is None else inputs.lengths[:, :, 0, 0].numpy()
    ranges = None
    if inputs.ranges is not None:
        start, end = (limit[:, 0, :, 0].numpy() for limit in inputs.ranges)
        ranges = start, end
    visible = positions.visible(np.arange(queries), limits, ranges)
    own, starts, ends = np.empty((3, batch, queries), np.int64)
    own[:] = visible.own
    starts[:] = 0 if visible.start is None else visible.start
    ends[:] = keys if visible.end is None else visible.end
    if visible.end is not None:
        np.minimum(np.maximum(ends, starts, out=ends), keys, out=ends)
    return RowBounds(own, starts, ends, min(positions.sinks, keys), min(positions.local, keys))
