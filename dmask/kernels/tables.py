"""Tensors as the compiled loops take them: tables of distinct rows, and where a row is in one."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.selection import Rows


class Table(NamedTuple):
    """The distinct rows of a tensor that broadcasts to `[B, H, Lq, Lk]`."""

    rows: NDArray[Any]
    """`[n, Lk]`, contiguous."""
    strides: tuple[int, int, int]
    """How many rows apart the next batch entry, head and query are: 0 if they share one."""


NO_TABLE = Table(np.empty((0, 0), np.bool_), (0, 0, 0))
"""No mask: every key is allowed."""


def location(row: Any, sizes: tuple[int, int], strides: tuple[int, int, int]) -> Any:
    """Returns which row of a table belongs to a row of the result, or those of an array of rows.

    `sizes` are the numbers of heads and of queries. Also compiled: see `rows`.
    """
    heads, queries = sizes
    batch, head, query = row // (heads * queries), row // queries % heads, row % queries
    return batch * strides[0] + head * strides[1] + query * strides[2]


def table_of(tensor: Tensor, keys: int) -> Table:
    """Returns the table of a 4-D tensor whose last dimension is `keys`, or 1 to stand for all."""
    for dim in range(3):
        if tensor.stride(dim) == 0 and tensor.shape[dim]:
            tensor = tensor.narrow(dim, 0, 1)  # an expanded dimension repeats one row
    sizes = tensor.shape[:3]
    batch, head, query = (
        0 if size == 1 else prod(sizes[dim + 1 :]) for dim, size in enumerate(sizes)
    )
    if tensor.shape[3] != keys:
        tensor = tensor.expand(*sizes, keys)
    rows = tensor.reshape(prod(sizes), keys)
    if rows.requires_grad:  # numpy() refuses a leaf, even where autograd is off
        rows = rows.detach()
    return Table(rows.numpy(), (batch, head, query))


def take_rows(table: Table, rows: NDArray[np.int64], sizes: tuple[int, int]) -> Tensor:
    """Copies the rows `[n, Lk]` of a table that belong to some rows of the result."""
    locations = torch.from_numpy(location(rows, sizes, table.strides))
    return torch.from_numpy(table.rows).index_select(0, locations)


class Seen(NamedTuple):
    """Visible and always-kept keys per row, from position alone."""

    own: NDArray[np.int64]
    """`[B, Lq]`: the key at the position of a row."""
    ends: NDArray[np.int64]
    """`[B, Lq]`: how many keys a row sees."""
    sinks: int
    """How many of the first keys every row keeps."""
    local: int
    """How many of the last keys up to its own a row keeps."""


def seen_by(selection: Rows, shape: tuple[int, int, int]) -> Seen:
    """Returns what the rows `[B, H, Lq]` of a selection see."""
    positions, keys = selection.positions, selection.positions.key_len
    length: Any = np.int64(keys)
    if selection.lengths is not None:
        length = selection.lengths[:, :, 0, 0].numpy()
    own = positions.own(np.arange(shape[2]), length)
    ends = (own + 1 if positions.is_causal else length).clip(0, keys)
    own, ends = (
        np.ascontiguousarray(np.broadcast_to(each, (shape[0], shape[2])), np.int64)
        for each in (own, ends)
    )
    return Seen(own, ends, positions.sinks, positions.local)
