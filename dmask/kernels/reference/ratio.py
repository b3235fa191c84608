"""The best fraction of each row's keys, in readable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference.ranking import best_keys, eligible_keys, first_keys, masked_scores


def ratio_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, ratio: float, window_size: int | None
) -> Tensor:
    """Keeps the best `ratio` of each row's eligible keys, rounded up, at most `window_size`."""
    eligible = eligible_keys(bias, allowed, floor)
    _, keys = best_keys(masked_scores(bias, eligible, floor), bias.shape[-1], "lowest")
    # 0.07 * 100 is slightly more than 7 but must not round up to 8.
    budget = (eligible.sum(dim=-1, keepdim=True).double() * ratio - 1e-9).ceil()
    rank = torch.arange(bias.shape[-1], device=bias.device)
    return first_keys(rank < budget, keys, window_size) & eligible
