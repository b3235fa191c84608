"""A plain loop, as the expected result of `vmap`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def loop(fn: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    """Calls `fn` on each slice of the stacks and stacks the results."""
    return torch.stack([fn(*slices) for slices in zip(*stacks, strict=True)])
