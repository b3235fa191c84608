"""`ratio_mask`: the best fraction of each row's keys."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.ops import Case, Inputs

RATIO = 0.25


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, mask = inputs.scores(), inputs.padding()[:, None, None]
    yield Case(
        f"ratio {RATIO}, padding",
        "argsort, scatter",
        lambda: torch.ops.dmask.ratio_mask(bias, mask, ratio=RATIO),
        lambda: share(bias, mask),
    )


def share(bias: Tensor, mask: Tensor) -> Tensor:
    """Keeps the best `RATIO` of the allowed keys, rounded up."""
    keys = bias.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True)
    count = (RATIO * mask.sum(dim=-1, keepdim=True)).ceil()
    chosen = (torch.arange(bias.shape[-1], device=bias.device) < count).expand(bias.shape)
    return torch.zeros_like(bias, dtype=torch.bool).scatter_(-1, keys, chosen) & mask
