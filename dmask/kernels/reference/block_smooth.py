"""Smoothing of a finished mask by whole blocks of keys, in readable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def block_smooth(mask: Tensor, block_size: int) -> Tensor:
    """Keeps a whole block of keys if more than half of it is kept, and drops it otherwise.

    The last block may be shorter. It is kept if more than half of its keys are.
    """
    keys = mask.shape[-1]
    block_size = min(block_size, max(keys, 1))
    missing = -keys % block_size
    padded = torch.nn.functional.pad(mask, (0, missing))
    blocks = padded.view(*mask.shape[:-1], padded.shape[-1] // block_size, block_size)
    sizes = torch.full((blocks.shape[-2],), block_size, device=mask.device)
    sizes[-1:] -= missing
    kept_whole = 2 * blocks.sum(dim=-1) > sizes
    return kept_whole.repeat_interleave(block_size, dim=-1)[..., :keys].contiguous()
