"""Tensors as the compiled loops take them: tables of rows, and which of them belong together."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.selection import Rows


class Table(NamedTuple):
    """The distinct rows of a tensor that broadcasts to `[B, H, Lq, Lk]`."""

    rows: NDArray[Any]
    """`[n, Lk]`, contiguous."""
    strides: tuple[int, int, int]
    """How many rows it is to the next batch entry, head and query: 0 where it is the same one."""


NO_TABLE = Table(np.empty((0, 0), np.bool_), (0, 0, 0))
"""Stands for a mask where there is none: every key is allowed."""


def table_of(tensor: Tensor, keys: int) -> Table:
    """The table of a 4-D tensor with `keys` keys, or one that stands for all of them."""
    for dim in range(3):
        if tensor.stride(dim) == 0 and tensor.shape[dim]:
            tensor = tensor.narrow(dim, 0, 1)  # an expanded dimension repeats one row
    sizes = tensor.shape[:3]
    batch, head, query = (
        0 if size == 1 else prod(sizes[dim + 1 :]) for dim, size in enumerate(sizes)
    )
    rows = tensor.expand(*sizes, keys).contiguous().view(prod(sizes), keys)
    # Autograd is out of the way in a kernel, but a leaf keeps its flag and numpy() would refuse it.
    return Table(rows.detach().numpy(), (batch, head, query))


class Seen(NamedTuple):
    """What rows see and always keep because of where they stand."""

    own: NDArray[np.int64]
    """`[B, Lq]`: the key at the position of a row."""
    ends: NDArray[np.int64]
    """`[B, Lq]`: how many keys a row sees."""
    sinks: int
    """How many of the first keys it keeps always."""
    local: int
    """How many of the last keys up to its own."""


def seen_by(selection: Rows, shape: tuple[int, int, int]) -> Seen:
    """What the rows `[B, H, Lq]` of a selection see."""
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
