"""Top-k indices on CUDA, straight from the rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmask.kernels.reference import indices as reference
from dmask.kernels.triton.layout import broadcast_rows
from dmask.kernels.triton.topk import in_registers, topk_mask

MAX_SCANNED = 2**14
"""The longest row whose index-ordered scan fits in shared memory: twice as many take 256 KiB."""


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """As in `reference.indices`, for a 4-D bias."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)
    if floor == math.inf or shape[3] > MAX_SCANNED:
        kept = topk_mask(bias, allowed, window_size, floor, "lowest")
        return reference.indices_of(kept, window_size)
    out = torch.empty((*shape[:3], window_size), dtype=torch.int32, device=bias.device)
    if not shape[3]:
        return out.fill_(-1)
    if out.numel():
        in_registers("topk_indices", broadcast_rows(bias, allowed, shape), out, window_size, floor)
    return out
