"""`topp_mask`: the smallest set of keys with a given softmax mass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.ops import Case, Inputs

P = 0.9


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, mask = inputs.scores(), inputs.padding()[:, None, None]
    yield Case(
        f"p {P}, padding",
        "sort, cumsum, scatter",
        lambda: torch.ops.dmask.topp_mask(bias, mask, p=P),
        lambda: nucleus(bias, mask),
    )


def nucleus(bias: Tensor, mask: Tensor) -> Tensor:
    """Keeps the best keys until their shares add up to `P`."""
    scores, keys = bias.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True)
    shares = scores.softmax(dim=-1)
    before = shares.cumsum(dim=-1) - shares
    return torch.zeros_like(bias, dtype=torch.bool).scatter_(-1, keys, before < P) & mask
