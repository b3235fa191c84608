"""Top-k in readable PyTorch: the selection rule itself."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference.ranking import best_keys, masked_scores


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float | Tensor, tie_break: str
) -> Tensor:
    """Keeps the `window_size` best keys of each row, except those at or below the floor.

    Args:
        bias: `[..., Lk]`.
        allowed: bool, broadcasts against the bias, or `None`.

    Returns:
        A bool mask with the broadcast shape of both.
    """
    scores = masked_scores(bias, allowed, floor)
    values, keys = best_keys(scores, min(window_size, scores.size(-1)), tie_break)
    # zeros_like takes half the time of zeros, which matters at decode sizes.
    mask = torch.zeros_like(scores, dtype=torch.bool, memory_format=torch.contiguous_format)
    return mask.scatter_(-1, keys, (values <= floor).logical_not_())
