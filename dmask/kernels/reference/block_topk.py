"""Top blocks of keys by pooled score, in readable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference.ranking import best_keys, eligible_keys, ranked

POOLS = ("max", "mean")


def block_topk_mask(
    bias: Tensor,
    allowed: Tensor | None,
    floor: float,
    window_size: int,
    key_block: int,
    pool: str,
    query_len: int,
) -> Tensor:
    """Keeps the best blocks of `key_block` keys by pooled score, and the block at each row.

    Always keeps the block with the key at the row's position (aligned bottom-right). The mask thus
    has `query_len` rows even with a bias per key.

    Keeps as many blocks as fit in the window, and at least one. The score of a block is the maximum
    or mean score of its eligible keys, as in NSA (arXiv:2502.11089), MoBA (arXiv:2502.13189) and
    Quest (arXiv:2406.10774).
    """
    eligible = eligible_keys(bias, allowed, floor)
    keys = eligible.shape[-1]
    key_block = min(key_block, max(keys, 1))
    pooled = _pooled(bias, eligible, key_block, pool)
    blocks = torch.arange(pooled.shape[-1], device=bias.device)
    query = torch.arange(query_len, device=bias.device)[:, None]
    own = (query + (keys - query_len)) // key_block
    # NaN ranks above everything, so it marks only the block at the row's position.
    scores = torch.where(blocks == own, torch.nan, pooled.masked_fill(pooled.isnan(), torch.inf))
    count = min(max(window_size // key_block, 1), pooled.shape[-1])
    _, best = best_keys(scores, count, "lowest")
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
    return chosen.repeat_interleave(key_block, dim=-1)[..., :keys] & eligible


def _pooled(bias: Tensor, eligible: Tensor, key_block: int, pool: str) -> Tensor:
    """Returns the score of each block of keys `[..., blocks]`: -inf if it has no eligible keys."""
    scores = ranked(bias).expand(eligible.shape)
    missing = -eligible.shape[-1] % key_block
    scores, eligible = (torch.nn.functional.pad(t, (0, missing)) for t in (scores, eligible))
    blocks = (*scores.shape[:-1], scores.shape[-1] // key_block, key_block)
    scores, eligible = scores.view(blocks), eligible.view(blocks)
    if pool == "max":
        return scores.masked_fill(~eligible, -torch.inf).amax(dim=-1)
    if scores.dtype is torch.float64:
        # The sum may overflow even if the mean does not. Only the order of the means matters.
        scores = scores / 2 ** key_block.bit_length()
    count = eligible.sum(dim=-1)
    mean = scores.double().masked_fill(~eligible, 0.0).sum(dim=-1) / count
    return mean.masked_fill(count == 0, -torch.inf)
