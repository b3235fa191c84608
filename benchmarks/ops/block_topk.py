"""`block_topk_mask`: whole blocks of keys by their largest score."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.ops import Case, Inputs

BLOCK = 64


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, window_size = inputs.scores(), inputs.window_size
    yield Case(
        f"blocks of {BLOCK}",
        "max, top-k, scatter",
        lambda: torch.ops.dmask.block_topk_mask(bias, None, window_size, key_block=BLOCK),
        lambda: best_blocks(bias, window_size),
    )


def best_blocks(bias: Tensor, window_size: int) -> Tensor:
    """Keeps the block at each query's position and the best other blocks."""
    query_len, key_len = bias.shape[-2:]
    pooled = bias.unflatten(-1, (-1, BLOCK)).amax(dim=-1)
    own = (torch.arange(query_len, device=bias.device) + key_len - query_len) // BLOCK
    pooled.scatter_(-1, own[:, None].expand(*pooled.shape[:-1], 1), torch.inf)
    best = pooled.topk(window_size // BLOCK, dim=-1, sorted=False).indices
    chosen = torch.zeros_like(pooled, dtype=torch.bool).scatter_(-1, best, True)
    return chosen.repeat_interleave(BLOCK, dim=-1)
