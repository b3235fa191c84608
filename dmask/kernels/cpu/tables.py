"""Tensors as the compiled loops take them: tables of rows, and which of them belong together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs


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
    batches, heads, queries = tensor.shape[:3]
    rows = tensor.expand(-1, -1, -1, keys).contiguous().view(batches * heads * queries, keys)
    strides = (
        0 if batches == 1 else heads * queries,
        0 if heads == 1 else queries,
        0 if queries == 1 else 1,
    )
    # Autograd is out of the way in a kernel, but a leaf keeps its flag and numpy() would refuse it.
    return Table(rows.detach().numpy(), strides)


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


def seen_by(inputs: SelectionInputs, shape: tuple[int, int, int]) -> Seen:
    """What the rows `[B, H, Lq]` of a selection see."""
    positions, keys = inputs.positions, inputs.positions.key_len
    batch, _, queries = shape
    own, ends = np.empty((2, batch, queries), np.int64)
    length: Any = keys if inputs.lengths is None else inputs.lengths[:, :, 0, 0].numpy()
    own[:] = np.arange(queries) + (keys - positions.query_len)
    if inputs.lengths is not None:
        np.minimum(own, length - 1, out=own)
    ends[:] = own + 1 if positions.is_causal else length
    # Lengths are clamped as ranges are: nothing past the last key, nothing before the first.
    np.minimum(np.maximum(ends, 0, out=ends), keys, out=ends)
    return Seen(own, ends, positions.sinks, positions.local)
