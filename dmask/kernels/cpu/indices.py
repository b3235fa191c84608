"""Conversion of scores and selections to indices, and of indices to masks, on the CPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from dmask.kernels.cpu.kept import kept_rows, list_rows, mark_named, write_indices
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.cpu.topk import topk_mask
from dmask.kernels.reference.indices import out_of_range
from dmask.kernels.reference.select import SelectionInputs


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """Same as `reference.indices.topk_indices`, for a 4-D bias."""
    kept = topk_mask(bias, allowed, window_size, floor, "lowest")
    out = torch.empty((*kept.shape[:3], window_size), dtype=torch.int32)
    if out.numel():
        rows, keys = kept.flatten(0, 2).numpy(), kept.shape[3]
        work = partial(list_rows, rows, out.view(-1, window_size).numpy())
        for_each_part(work, len(rows), keys)
    return out


def kept_indices(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, width: int) -> Tensor:
    """Same as `reference.indices.kept_indices`."""
    out = cutoff.new_empty((*threshold.shape, width))
    if out.numel():
        kept = kept_rows(inputs, threshold, cutoff)
        work = partial(write_indices, kept, out.view(-1, width).numpy())
        for_each_part(work, len(kept.cutoffs), inputs.positions.key_len)
    return out


def mask_of(indices: Tensor, key_len: int, block_size: int, strict: bool) -> Tensor:
    """Same as `reference.indices.mask_of`."""
    size = min(block_size, max(key_len, 1))
    count = -(-key_len // size)
    width = indices.shape[-1]
    out = torch.empty((*indices.shape[:-1], key_len), dtype=torch.bool)
    if not indices.numel():
        return out.zero_()
    rows = indices.contiguous().view(-1, width).numpy()
    largest = np.empty(len(rows), np.int64)
    marks = out.view(len(rows), key_len).numpy()
    for_each_part(partial(mark_named, rows, size, count, marks, largest), len(rows), key_len)
    if strict and (most := int(largest.max())) >= count:
        raise ValueError(f"{out_of_range(count)}, got {most}")
    return out
