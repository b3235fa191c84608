"""Compares the mask of a strategy with a plain loop over each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tests.support.generate import Call


def eligible_scores(call: Call) -> Tensor:
    """Returns the scores of a call in the shape of its result, with NaN for ineligible keys."""
    bias, mask = call.full()
    excluded = bias <= call.floor
    if mask is not None:
        excluded = excluded | ~mask
    return bias.double().masked_fill(excluded, math.nan)


def check_rows(
    call: Call,
    got: Tensor,
    choose: Callable[[int, list[float]], set[int]],
    queries: int | None = None,
) -> None:
    """Asserts that each row keeps the keys that `choose(query, scores)` returns.

    Args:
        queries: the number of queries of the result, if greater than in the tensors of the call.
    """
    rows = eligible_scores(call)
    if queries is not None:
        rows = rows.expand(-1, -1, queries, -1)
    assert got.shape == rows.shape
    for place in torch.cartesian_prod(*(torch.arange(n) for n in rows.shape[:3])).tolist():
        kept = got[tuple(place)].nonzero().flatten().tolist()
        assert kept == sorted(choose(place[2], rows[tuple(place)].tolist()))


def finite(call: Call) -> Call:
    """Returns the call without NaN and infinite scores, which other tests cover."""
    return replace(call, bias=call.bias.nan_to_num(nan=0.5, posinf=2.0, neginf=-2.0))
