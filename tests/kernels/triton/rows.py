"""Rows that kernels get wrong first: ties, specials, plateaus, odd strides."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def special(*shape: int) -> Tensor:
    """NaN of both signs, infinities and zeros of both signs among numbers."""
    values = torch.tensor([torch.nan, -torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1.0])
    which = (normal(*shape, seed=1).abs() * 5).long()
    return torch.where(which < len(values), values[which.clamp(max=6)], normal(*shape))


def nan_and_infinity(*shape: int) -> Tensor:
    signed = torch.where(normal(*shape, seed=3) < 0, -1.0, 1.0) * torch.nan
    return torch.where(normal(*shape, seed=2) < -1, signed, torch.inf)


KINDS: dict[str, Callable[..., Tensor]] = {
    "normal": normal,
    "relu": lambda *shape: (normal(*shape) - 1).relu(),
    "rounded": lambda *shape: normal(*shape).mul(1.5).round(),
    "equal": lambda *shape: torch.full(shape, 0.5),
    "special": special,
    "NaN and infinity": nan_and_infinity,
    "denormal": lambda *shape: normal(*shape) * 1e-40,
    "narrow": lambda *shape: 1 + normal(*shape) * 1e-5,
    "sorted": lambda *shape: normal(*shape).sort().values,
    "-inf": lambda *shape: normal(*shape).masked_fill(normal(*shape, seed=4) < 1.5, -torch.inf),
}
