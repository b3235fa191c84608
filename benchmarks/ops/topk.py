"""`topk_mask`: the best keys of each row, with both tie rules."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs
from tests.support.inlined import inlined_path


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, causal, window_size = inputs.scores(), inputs.causal(), inputs.window_size
    yield Case(
        "fp32, causal",
        "top-k, scatter",
        lambda: dmask.topk_mask(bias, causal, window_size),
        lambda: inlined_path(bias, causal, window_size),
    )
    for dtype in (torch.float32, torch.bfloat16):
        yield _lowest(inputs.scores(dtype=dtype), window_size)


def _lowest(bias: Tensor, window_size: int) -> Case:
    return Case(
        f"{str(bias.dtype).removeprefix('torch.')}, lowest",
        "stable sort, scatter",
        lambda: dmask.topk_mask(bias, None, window_size, tie_break="lowest"),
        lambda: sorted_mask(bias, window_size),
    )


def sorted_mask(bias: Tensor, window_size: int) -> Tensor:
    """Returns the mask with ties to the lowest index, by a stable sort."""
    best = bias.sort(dim=-1, descending=True, stable=True).indices[..., :window_size]
    return torch.zeros_like(bias, dtype=torch.bool).scatter_(-1, best, True)
