"""`kept_mask`: the dense mask of a selection."""

from __future__ import annotations

from collections.abc import Iterator

import torch

import dmask
from benchmarks.ops import Case, Inputs


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, query_len, keys = inputs.scores(query_len=1), inputs.query_len, inputs.key_len
    selected = dmask.select(bias, inputs.window_size, is_causal=True, query_len=query_len)
    key = torch.arange(keys, device=bias.device)
    own = torch.arange(query_len, device=bias.device)[:, None] + (keys - query_len)
    threshold, cutoff = selected.threshold[..., None], selected.cutoff[..., None]
    yield Case(
        "bias per key, causal",
        "comparisons",
        selected.to_mask,
        lambda: ((bias > threshold) | ((bias == threshold) & (key <= cutoff))) & (key <= own),
    )
