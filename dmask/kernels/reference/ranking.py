"""Ranking of keys: the score of a forbidden key, the keys that may be kept, and the tie rule."""

from __future__ import annotations

import torch
from torch import Tensor

RANKED = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Dtypes that `torch.topk` supports. Other dtypes (8-bit floats) are converted exactly."""


def ranked_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which scores of a dtype are compared and ranked."""
    return dtype if dtype in RANKED else torch.float32


def ranked(bias: Tensor) -> Tensor:
    """Converts scores to a dtype that PyTorch can compare and rank."""
    return bias if bias.dtype in RANKED else bias.float()


def masked_scores(bias: Tensor, allowed: Tensor | None, floor: float | Tensor) -> Tensor:
    """Returns the scores to rank, with the scores of forbidden keys set to `floor`."""
    if bias.dtype not in RANKED:
        bias = ranked(bias)
    return bias if allowed is None else torch.where(allowed, bias, floor)


def eligible_keys(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """Flags the keys that a mask may keep: allowed keys with a score above the floor, or NaN."""
    eligible = (ranked(bias) <= floor).logical_not_()
    return eligible.contiguous() if allowed is None else (eligible & allowed).contiguous()


def best_keys(scores: Tensor, count: int, tie_break: str) -> tuple[Tensor, Tensor]:
    """Returns the scores and indices of the first `count` keys of the ranking.

    Only this function implements the tie rule. With `"torch"`, `torch.topk` breaks ties. With
    `"lowest"`, a stable sort puts the lower key index first among equal scores. Both rank NaN above
    everything and -0.0 equal to +0.0.
    """
    if tie_break == "torch":
        # Positional arguments, because keywords take 0.3 us, which matters at decode sizes. The
        # last argument is `sorted`.
        values, keys = scores.topk(count, -1, True, False)
        return values, keys
    if scores.device.type != "cpu":
        # CUDA sorts by bits and puts a negative NaN last: pytorch/pytorch#190781.
        scores = scores.masked_fill(scores.isnan(), torch.nan)
    values, keys = scores.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], keys[..., :count]


def first_keys(wanted: Tensor, keys: Tensor, window_size: int | None) -> Tensor:
    """Returns the mask of the wanted keys among the first `window_size` ranked keys."""
    if window_size is not None:
        wanted = wanted & (torch.arange(keys.shape[-1], device=keys.device) < window_size)
    return torch.zeros_like(wanted).scatter_(-1, keys, wanted)
