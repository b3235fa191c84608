"""The specification in code: readable PyTorch, for every device and dtype."""

from __future__ import annotations

import torch
from torch import Tensor

# Dtypes that torch.topk knows. The others, 8-bit floats, are converted exactly.
RANKED = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def ranked(bias: Tensor) -> Tensor:
    """The same scores in a dtype that PyTorch compares and ranks."""
    return bias if bias.dtype in RANKED else bias.float()


def masked_scores(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """The scores a selection ranks: those of forbidden keys are `floor`. Broadcasts."""
    bias = ranked(bias)
    return bias if allowed is None else torch.where(allowed, bias, floor)


def eligible_keys(bias: Tensor, allowed: Tensor | None, floor: float) -> Tensor:
    """The keys that a mask may keep: allowed, with a score above the floor. NaN is above it."""
    eligible = (ranked(bias) <= floor).logical_not_()
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
    # zeros_like takes half the time of zeros, which shows at decode sizes.
    mask = torch.zeros_like(scores, dtype=torch.bool, memory_format=torch.contiguous_format)
    return mask.scatter_(-1, keys, (values <= floor).logical_not_())


def best_keys(scores: Tensor, count: int, tie_break: str) -> tuple[Tensor, Tensor]:
    """The scores and indices of the keys that rank first: the one place that knows the tie rule.

    `"torch"` leaves equal scores to `torch.topk`. `"lowest"` sorts stably, so that of equal scores
    the lower key index comes first. Both rank NaN above everything and -0.0 equal to +0.0.
    """
    if tie_break == "torch":
        values, keys = scores.topk(count, dim=-1, sorted=False)
        return values, keys
    if scores.device.type != "cpu":
        # CUDA sorts by bits, and puts a NaN with a sign last: pytorch/pytorch#190781.
        scores = scores.masked_fill(scores.isnan(), torch.nan)
    values, keys = scores.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], keys[..., :count]


def indices_of(mask: Tensor, width: int) -> Tensor:
    """The kept keys of each row as int32 indices `[..., width]`: ascending, then -1.

    No row keeps more than `width` keys.
    """
    key = torch.arange(mask.shape[-1], device=mask.device, dtype=torch.int32)
    # Every kept key goes to the place that counting gives it, all others to one that is cut off.
    place = mask.cumsum(dim=-1).sub_(1).masked_fill_(~mask, width)
    indices = key.new_full((*mask.shape[:-1], width + 1), -1)
    return indices.scatter_(-1, place, key.expand(mask.shape))[..., :width].contiguous()


def mask_of(indices: Tensor, key_len: int, block_size: int) -> Tensor:
    """The mask `[..., key_len]` of the keys, or blocks of keys, that indices name; negative ones
    name none.
    """
    count = -(-key_len // block_size)
    place = indices.long().masked_fill(indices < 0, count)  # one more than there are, cut off
    named = torch.zeros(
        (*indices.shape[:-1], count + 1), dtype=torch.bool, device=indices.device
    ).scatter_(-1, place, True)[..., :count]
    return named.repeat_interleave(block_size, dim=-1)[..., :key_len].contiguous()


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
