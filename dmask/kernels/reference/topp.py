"""The smallest set of keys with a given softmax mass, in readable PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmask.kernels.reference.ranking import best_keys, eligible_keys, first_keys, masked_scores

SLACK = 1e-12
"""A mass within this of `p` counts as reaching it."""


def topp_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, p: float, window_size: int | None
) -> Tensor:
    """Keeps the smallest set of top keys whose softmax mass reaches `p`, at most `window_size`.

    This is the rule of nucleus sampling, which Twilight (arXiv:2502.02770) and XAttention
    (arXiv:2503.16428) use to prune attention. The mass is summed in double precision and compared
    with `p` up to a tolerance of 1e-12. With `p` = 1, or if a NaN or infinite score makes the mass
    undefined, all eligible keys are kept.
    """
    eligible = eligible_keys(bias, allowed, floor)
    values, keys = best_keys(masked_scores(bias, eligible, floor), bias.shape[-1], "lowest")
    logits = values.double().masked_fill(~eligible.gather(-1, keys), -torch.inf)
    mass = logits.softmax(dim=-1).cumsum(dim=-1)
    before = torch.nn.functional.pad(mass, (1, 0))[..., :-1]
    reached = before >= (p - SLACK if p < 1 else math.inf)
    return first_keys(~reached, keys, window_size) & eligible
