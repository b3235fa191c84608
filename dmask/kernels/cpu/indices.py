"""Top-k indices on the CPU."""

from __future__ import annotations

from torch import Tensor

from dmask.kernels.cpu.topk import topk_mask
from dmask.kernels.reference.indices import indices_of


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """Same as `reference.indices.topk_indices`, for a 4-D bias."""
    return indices_of(topk_mask(bias, allowed, window_size, floor, "lowest"), window_size)
