"""Top-k indices on CUDA, straight from the rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmask.kernels.reference import indices as reference
from dmask.kernels.triton.layout import MAX_KEYS, broadcast_rows
from dmask.kernels.triton.topk import in_registers


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """As in `reference.indices`, for a 4-D bias."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)
    if floor == math.inf or shape[3] > MAX_KEYS:
        return reference.topk_indices(bias, allowed, window_size, floor)
    out = torch.empty((*shape[:3], window_size), dtype=torch.int32, device=bias.device)
    if not shape[3]:
        return out.fill_(-1)
    if out.numel():
        in_registers("topk_indices", broadcast_rows(bias, allowed, shape), out, window_size, floor)
    return out
