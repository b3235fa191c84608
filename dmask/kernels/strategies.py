"""Strategies beside top-k, in readable PyTorch: by score, of equal scores the lower index first.

Each takes a bias `({B|1}, {H|1}, {Lq|1}, Lk)` and a bool mask that broadcasts against it or `None`,
and gives a new bool mask of the broadcast shape of both. A key is *eligible* where it is allowed
and its score is above the floor; no other key is ever kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmask.kernels.reference import best_keys, eligible_keys, masked_scores, ranked

POOLS = ("max", "mean")


def relu_mask(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """Keeps the eligible keys with a score above zero."""
    return eligible_keys(bias, allowed, max(floor, 0.0))


def topp_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, p: float, window_size: int | None
) -> Tensor:
    """Keeps the fewest best keys whose share of the softmax reaches `p`, at most `window_size`.

    The idea is that of nucleus sampling; Twilight (arXiv:2502.02770) and XAttention
    (arXiv:2503.16428) prune attention so. Shares are added up in double precision, and reach `p`
    where they come within 1e-12 of it. With `p` = 1, or where a NaN or infinite score leaves no
    shares to add up, all are kept.
    """
    eligible = eligible_keys(bias, allowed, floor)
    values, keys = best_keys(masked_scores(bias, eligible, floor), bias.shape[-1], "lowest")
    logits = values.double().masked_fill(~eligible.gather(-1, keys), -torch.inf)
    mass = logits.softmax(dim=-1).cumsum(dim=-1)
    before = torch.nn.functional.pad(mass, (1, 0))[..., :-1]
    reached = before >= (p - 1e-12 if p < 1 else math.inf)
    return _first(~reached, keys, window_size) & eligible


def ratio_mask(
    bias: Tensor, allowed: Tensor | None, floor: float, ratio: float, window_size: int | None
) -> Tensor:
    """Keeps the best `ratio` of each row's eligible keys, rounded up, at most `window_size`."""
    eligible = eligible_keys(bias, allowed, floor)
    _, keys = best_keys(masked_scores(bias, eligible, floor), bias.shape[-1], "lowest")
    # 0.07 * 100 is a little more than 7 and must not become 8.
    budget = (eligible.sum(dim=-1, keepdim=True).double() * ratio - 1e-9).ceil()
    place = torch.arange(bias.shape[-1], device=bias.device)
    return _first(place < budget, keys, window_size) & eligible


def block_topk_mask(
    bias: Tensor,
    allowed: Tensor | None,
    floor: float,
    window_size: int,
    key_block: int,
    pool: str,
) -> Tensor:
    """Keeps whole blocks of `key_block` keys: the best by pooled score, and the row's own always.

    As many blocks as fit the window are kept, and one at least. A block's score is the largest or
    the mean of its eligible keys: so select NSA (arXiv:2502.11089), MoBA (arXiv:2502.13189) and
    Quest (arXiv:2406.10774). A row's own block holds the key at its position, aligned bottom-right.
    """
    eligible = eligible_keys(bias, allowed, floor)
    queries, keys = eligible.shape[-2:]
    pooled = _pooled(bias, eligible, key_block, pool)
    blocks = torch.arange(pooled.shape[-1], device=bias.device)
    own = (torch.arange(queries, device=bias.device)[:, None] + (keys - queries)) // key_block
    # NaN ranks above everything: it stands for a row's own block, and for no other.
    ranked = pooled.masked_fill(pooled.isnan(), torch.inf).masked_fill(blocks == own, torch.nan)
    count = min(max(window_size // key_block, 1), pooled.shape[-1])
    _, best = best_keys(ranked, count, "lowest")
    chosen = torch.zeros_like(ranked, dtype=torch.bool).scatter_(-1, best, True)
    return chosen.repeat_interleave(key_block, dim=-1)[..., :keys] & eligible


def _pooled(bias: Tensor, eligible: Tensor, key_block: int, pool: str) -> Tensor:
    """The score of each block of keys `[..., blocks]`; -inf for one without an eligible key."""
    scores = ranked(bias).expand(eligible.shape)
    missing = -eligible.shape[-1] % key_block
    scores, eligible = (torch.nn.functional.pad(t, (0, missing)) for t in (scores, eligible))
    blocks = (*scores.shape[:-1], scores.shape[-1] // key_block, key_block)
    scores, eligible = scores.view(blocks), eligible.view(blocks)
    if pool == "max":
        return scores.masked_fill(~eligible, -torch.inf).amax(dim=-1)
    count = eligible.sum(dim=-1)
    mean = scores.float().masked_fill(~eligible, 0.0).sum(dim=-1) / count
    return mean.masked_fill(count == 0, -torch.inf)


def _first(wanted: Tensor, keys: Tensor, window_size: int | None) -> Tensor:
    """The mask of ranked keys that are wanted, of the first `window_size`."""
    if window_size is not None:
        wanted = wanted & (torch.arange(keys.shape[-1], device=keys.device) < window_size)
    return torch.zeros_like(wanted).scatter_(-1, keys, wanted)
