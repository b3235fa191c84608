"""Keys with a score above zero, in readable PyTorch."""

from __future__ import annotations

from torch import Tensor

from dmask.kernels.reference.ranking import eligible_keys


def relu_mask(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """Keeps the allowed keys with a score above zero and above the floor."""
    return eligible_keys(bias, allowed, max(floor, 0.0))
