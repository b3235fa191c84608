"""Conversion of scores and selections to indices, and of indices to masks, on CUDA."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dmask import compat
from dmask.kernels.reference import indices as reference
from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton import layout, long_rows
from dmask.kernels.triton.kept import write_kept
from dmask.kernels.triton.launches import Launch
from dmask.kernels.triton.layout import Restricted, broadcast_rows, power_of_2, selected_rows
from dmask.kernels.triton.named import mark
from dmask.kernels.triton.topk import write


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """Same as `reference.indices.topk_indices`, for a 4-D bias."""
    shape = layout.broadcast_shape(bias, allowed)
    if not long_rows.supports(shape, floor):
        return reference.topk_indices(bias, allowed, window_size, floor)
    size = *shape[:3], window_size
    if not shape[3]:
        return torch.full(size, -1, dtype=torch.int32, device=bias.device)
    out = torch.empty(size, dtype=torch.int32, device=bias.device)
    if out.numel():
        write("topk_indices", broadcast_rows(bias, allowed, shape), out, window_size, floor)
    return out


def kept_indices(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, width: int) -> Tensor:
    """Same as `reference.indices.kept_indices`."""
    if not layout.supports((*threshold.shape, inputs.positions.key_len), inputs.floor):
        return reference.kept_indices(inputs, threshold, cutoff, width)
    out = cutoff.new_empty((*threshold.shape, width))
    if out.numel():
        tensors, restricted = selected_rows(inputs, threshold, cutoff)
        _prepared(restricted, width)(*tensors, out)
    return out


@lru_cache(maxsize=2**12)
def _prepared(restricted: Restricted, width: int) -> Launch:
    rows = restricted.rows
    numbers, constants = restricted.numbers()
    return Launch(
        "kept_indices",
        rows.shape,
        write_kept,
        (rows.total,),
        (*numbers, width),
        **constants,
        BLOCK=min(2048, max(16, power_of_2(rows.shape[3]))),
        num_warps=4,
    )


def mask_of(indices: Tensor, key_len: int, block_size: int, strict: bool) -> Tensor:
    """Same as `reference.indices.mask_of`, for 4-D indices."""
    size = min(block_size, max(key_len, 1))
    count = -(-key_len // size)
    shape = (*indices.shape[:3], key_len)
    out = torch.zeros(shape, dtype=torch.bool, device=indices.device)
    inside = mark(indices, out, size, count)
    if strict:
        compat.assert_later(inside, reference.out_of_range(count))
    return out
