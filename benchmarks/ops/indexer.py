"""`indexer_topk`: DeepSeek's lightning indexer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs

HEADS, SIZE = 8, 64


def cases(inputs: Inputs) -> Iterator[Case]:
    """Small integers, so that sums are exact, and the same choice can be expected."""
    generator = torch.Generator().manual_seed(0)

    def integers(*shape: int) -> Tensor:
        numbers = torch.randint(-3, 4, (inputs.batch, *shape), generator=generator)
        return numbers.to(inputs.device, torch.float32)

    query, key = integers(inputs.query_len, HEADS, SIZE), integers(inputs.key_len, SIZE)
    weights, window_size = integers(inputs.query_len, HEADS), inputs.window_size
    yield Case(
        "8 heads of 64, causal",
        "all scores at once",
        lambda: dmask.indexer_topk(query, key, weights, window_size, is_causal=True),
        lambda: at_once(query, key, weights, window_size),
    )


def at_once(query: Tensor, key: Tensor, weights: Tensor, window_size: int) -> Tensor:
    """Scores all keys for all queries, as Hugging Face's models do, and selects with dmask."""
    products = torch.einsum("bqhd,bkd->bqhk", query, key).relu()
    scores = torch.einsum("bqhk,bqh->bqk", products, weights)[:, None]
    return dmask.select(scores, window_size, is_causal=True).to_indices()[:, 0]
