"""`create_mask`: a mask from padding and scores."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs
from tests.support.inlined import inlined_path


def cases(inputs: Inputs) -> Iterator[Case]:
    padding = inputs.padding()
    for name, bias in (
        ("prompt, fp32", inputs.scores()),
        ("prompt, bf16", inputs.scores(dtype=torch.bfloat16)),
        ("one query, fp32", inputs.scores(query_len=1)),
    ):
        yield _case(f"{name}, padding", bias, padding, inputs.window_size)


def _case(name: str, bias: Tensor, padding: Tensor, window_size: int) -> Case:
    batch, _, query_len, key_len = bias.shape
    return Case(
        name,
        "top-k, scatter",
        lambda: dmask.create_mask(bias, padding, batch, query_len, key_len, window_size),
        lambda: inlined_path(bias, padding[:, None, None], window_size),
    )
