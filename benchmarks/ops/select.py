"""`select`: a threshold per row, and the mask that it defines."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, padding, window_size = inputs.scores(), inputs.padding(), inputs.window_size
    yield Case(
        "bias per query, padding",
        "masked top-k, threshold",
        lambda: dmask.select(bias, window_size, attention_mask=padding).to_mask(),
        lambda: threshold_mask(bias, padding[:, None, None], window_size),
    )
    per_key, causal, query_len = inputs.scores(query_len=1), inputs.causal(), inputs.query_len
    yield Case(
        "bias per key, causal",
        "masked top-k, threshold",
        lambda: dmask.select(per_key, window_size, is_causal=True, query_len=query_len).to_mask(),
        lambda: threshold_mask(per_key, causal, window_size),
    )


def threshold_mask(bias: Tensor, mask: Tensor, window_size: int) -> Tensor:
    """Keeps the scores that reach the smallest of the `window_size` best scores."""
    floor = torch.finfo(bias.dtype).min
    scores = bias.masked_fill(~mask, floor)
    threshold = scores.topk(window_size, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    return (scores >= threshold) & (scores > floor)
