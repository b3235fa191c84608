"""The smallest set of keys that holds a share of the softmax, on CUDA."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference import topp as reference
from dmask.kernels.triton import layout
from dmask.kernels.triton.budgets import bits_of
from dmask.kernels.triton.layout import broadcast_rows
from dmask.kernels.triton.topk import write_short_rows


def topp_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, p: float, window_size: int | None
) -> Tensor:
    """Same as `reference.topp.topp_mask`, for a 4-D bias.

    Masses are sums of float64 in a fixed order: the same tensors always give the same mask. The
    reference adds in a different order, and its sums may differ from these by up to 4e-12 in rows
    of 32768 keys. The masks are therefore equal unless the cumulative mass of the best keys comes
    within 5e-12 of `p`; then they may differ in keys with about that little mass.
    """
    shape = layout.broadcast_shape(bias, allowed)
    # A `p` within the slack of 0 needs no key.
    if p <= reference.SLACK or shape[3] > layout.MAX_KEYS or not layout.supports(shape, floor):
        return reference.topp_mask(bias, allowed, floor, p, window_size)
    out = torch.empty(shape, dtype=torch.bool, device=bias.device)
    if out.numel():
        rows = broadcast_rows(bias, allowed, shape)
        window = shape[3] if window_size is None else window_size
        if p < 1:
            share = bits_of(p - reference.SLACK)
            write_short_rows("topp_mask", rows, out, window, floor, share, "mass")
        else:
            write_short_rows("topp_mask", rows, out, window, floor)
    return out
