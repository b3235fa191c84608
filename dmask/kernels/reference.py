"""The specification in code: readable PyTorch, for every device and dtype."""

from __future__ import annotations

import torch
from torch import Tensor

# Dtypes that torch.topk knows. Others (the 8-bit floats) rank the same after an exact conversion.
_RANKED = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def masked_scores(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """The scores a selection ranks: those of forbidden keys are `floor`. Broadcasts."""
    if bias.dtype not in _RANKED:
        bias = bias.float()
    return bias if allowed is None else torch.where(allowed, bias, floor)


def eligible_keys(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """The keys that a mask may keep: allowed, with a score above the floor. NaN is above it."""
    eligible = (bias <= floor).logical_not_()
    return eligible.contiguous() if allowed is None else (eligible & allowed).contiguous()


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """Keeps the `window_size` best keys of each row, less those at or under the floor.

    Args:
        bias: `[..., Lk]`.
        allowed: bool, broadcasts against the bias, or `None`.

    Returns:
        A bool mask of the broadcast shape of both.
    """
    scores = masked_scores(bias, allowed, floor)
    values, keys = best_keys(scores, min(window_size, scores.shape[-1]), tie_break)
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    return mask.scatter_(-1, keys, (values <= floor).logical_not_())


def best_keys(scores: Tensor, count: int, tie_break: str) -> tuple[Tensor, Tensor]:
    """The scores and indices of the keys that rank first: the one place that knows the tie rule.

    `"torch"` leaves equal scores to `torch.topk`. `"lowest"` sorts stably, so that of equal scores
    the lower key index comes first. Both rank NaN above everything and -0.0 equal to +0.0.
    """
    if tie_break == "torch":
        values, keys = scores.topk(count, dim=-1, sorted=False)
        return values, keys
    values, keys = scores.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], keys[..., :count]


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """The keys that `topk_mask` keeps with `tie_break="lowest"`, ascending, then -1.

    Returns:
        int32 `[..., window_size]`.
    """
    scores = masked_scores(bias, allowed, floor)
    key_len = scores.shape[-1]
    values, keys = best_keys(scores, min(window_size, key_len), "lowest")
    # A dropped key is given an index past the end, so that sorting brings it into the tail.
    keys = keys.masked_fill(values <= floor, key_len).sort(dim=-1).values
    indices = keys.masked_fill_(keys == key_len, -1).int()
    return torch.nn.functional.pad(indices, (0, window_size - keys.shape[-1]), value=-1)


def block_smooth(mask: Tensor, block_size: int) -> Tensor:
    """Keeps a block of keys whole where more than half of it is kept, drops it whole otherwise.

    The last block may be short: half of it is half of the keys that it has.
    """
    keys = mask.shape[-1]
    missing = -keys % block_size
    padded = torch.nn.functional.pad(mask, (0, missing))
    blocks = padded.view(*mask.shape[:-1], padded.shape[-1] // block_size, block_size)
    sizes = torch.full((blocks.shape[-2],), block_size, device=mask.device)
    sizes[-1:] -= missing
    kept_whole = 2 * blocks.sum(dim=-1) > sizes
    return kept_whole.repeat_interleave(block_size, dim=-1)[..., :keys].contiguous()
