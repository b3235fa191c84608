"""A share of each row's keys, on CUDA."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference import ratio as reference
from dmask.kernels.triton import layout
from dmask.kernels.triton.budgets import bits_of
from dmask.kernels.triton.layout import broadcast_rows
from dmask.kernels.triton.topk import write_short_rows


def ratio_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, ratio: float, window_size: int | None
) -> Tensor:
    """Same as `reference.ratio.ratio_mask`, for a 4-D bias."""
    shape = layout.broadcast_shape(bias, allowed)
    # A share of 1e-9 may round to no key at all, and a search needs one to find.
    if ratio <= 1e-9 or shape[3] > layout.MAX_KEYS or not layout.supports(shape, floor):
        return reference.ratio_mask(bias, allowed, floor, ratio, window_size)
    out = torch.empty(shape, dtype=torch.bool, device=bias.device)
    if out.numel():
        rows = broadcast_rows(bias, allowed, shape)
        window = shape[3] if window_size is None else window_size
        write_short_rows("ratio_mask", rows, out, window, floor, bits_of(ratio), "ratio")
    return out
