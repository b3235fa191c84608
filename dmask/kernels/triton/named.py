"""The mask of the keys, or blocks of keys, that indices name."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import power_of_2, row_offset

STORES = 2**11
"""How many keys a program sets at once."""


@triton.jit(do_not_specialize=["heads", "queries", "width", "keys", "size", "count"])
def mark_named(
    indices,
    out,
    good,
    heads,
    queries,
    width,
    index_b,
    index_h,
    index_q,
    index_k,
    keys,
    size,
    count,
    INDICES: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Sets the keys of the named blocks, of `size` keys each, and clears `good` if an index is not
    below `count`.
    """
    parts = tl.cdiv(width, INDICES)
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    indices += row_offset(row, heads, queries, index_b, index_h, index_q)
    place = part * INDICES + tl.arange(0, INDICES)
    where = indices + place.to(tl.int64) * index_k
    index = tl.load(where, mask=place < width, other=-1).to(tl.int64)
    if tl.sum((index >= count).to(tl.int32), 0) > 0:
        tl.store(good, 0)
    named = ((index >= 0) & (index < count))[:, None]
    first = (tl.where(index < count, index, 0) * size)[:, None]
    out += row.to(tl.int64) * keys + first
    for start in range(0, size, SIZE):
        offset = start + tl.arange(0, SIZE)[None, :]
        wanted = named & (offset < size) & (first + offset < keys)
        tl.store(out + offset, wanted, mask=wanted)


def mark(indices: Tensor, out: Tensor, size: int, count: int) -> Tensor:
    """Sets what indices name in a mask of zeros. Returns a flag: all are below `count`."""
    good = torch.ones((), dtype=torch.bool, device=out.device)
    width = indices.shape[3]
    if indices.numel():
        some = min(128, power_of_2(size))
        each = min(STORES // some, max(16, power_of_2(width)))
        launch(
            "mask_from_indices",
            mark_named,
            (indices.numel() // width * -(-width // each),),
            out.shape,
            indices,
            out,
            good,
            *indices.shape[1:3],
            width,
            *indices.stride(),
            out.shape[3],
            size,
            count,
            INDICES=each,
            SIZE=some,
            num_warps=4,
        )
    return good
