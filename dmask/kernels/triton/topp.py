"""The smallest set of keys that holds a share of the softmax, on CUDA."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference import topp as reference
from dmask.kernels.triton import layout
from dmask.kernels.triton.budgets import bits_of
from dmask.kernels.triton.layout import broadcast_rows
from dmask.kernels.triton.topk import in_registers

SLACK = 1e-12
"""Within this, a mass counts as reaching `p`, as in the reference."""


def topp_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, p: float, window_size: int | None
) -> Tensor:
    """As in `reference.topp`, for a 4-D bias.

    Masses are sums of float64 in a fixed order: the same tensors always give the same mask. The
    reference adds in another order, and sums of it may differ by up to 4e-12 in rows of 32768 keys.
    So masks are equal bit for bit unless the best keys of a row, however many, have a mass within
    5e-12 of `p`. If they do, the two may differ by the keys whose mass is that little.
    """
    shape = layout.broadcast_shape(bias, allowed)
    if p <= SLACK or shape[3] > layout.MAX_KEYS or not layout.supports(shape, floor):
        return reference.topp_mask(bias, allowed, floor, p, window_size)
    out = torch.empty(shape, dtype=torch.bool, device=bias.device)
    if out.numel():
        rows = broadcast_rows(bias, allowed, shape)
        window = shape[3] if window_size is None else window_size
        share, budget = (bits_of(p - SLACK), "mass") if p < 1 else (0, "given")
        in_registers("topp_mask", rows, out, window, floor, share, budget)
    return out
