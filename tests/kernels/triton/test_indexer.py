"""The scores and indices of the Triton indexer equal the reference."""

from __future__ import annotations

import pytest
import torch

from dmask.kernels.reference import indexer as reference
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import indexer
from tests.kernels.triton.rows import DTYPES, normal
from tests.kernels.triton.test_select import on_device, some_ranges


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "queries", "keys", "size"),
    [(3, 5, 1100, 8), (64, 3, 40, 16), (1, 2, 20, 130), (129, 2, 9, 8)],
)
def test_scores(
    heads: int, queries: int, keys: int, size: int, dtype: torch.dtype, device: str
) -> None:
    """Small integers, whose sums are exact."""
    query = normal(2, queries, heads, size).mul(2).round().to(dtype)
    key, weights = (
        normal(2, keys, size, seed=1).round().to(dtype),
        normal(2, queries, heads).round(),
    )
    spread = torch.stack([query, query + 1], dim=-1)[..., 0]
    for given in (query, spread):
        for relu in (True, False):
            wanted = reference.index_scores(given, key, weights, relu)
            there = given.to(device), key.mT.contiguous().mT.to(device), weights.to(device)
            assert torch.equal(indexer.index_scores(*there, relu).cpu(), wanted)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy, of 0 times infinity
def test_infinite_keys(device: str) -> None:
    """Three heads leave a place for a fourth, which must not add 0 times infinity."""
    query, weights = torch.full((1, 2, 3, 8), -1.0).half(), torch.ones(1, 2, 3)
    key = torch.ones(1, 9, 8).half()
    key[:, 4] = torch.inf
    wanted = reference.index_scores(query, key, weights, True)
    assert not wanted.isnan().any()
    there = query.to(device), key.to(device), weights.to(device)
    assert torch.equal(indexer.index_scores(*there, True).cpu(), wanted)


@pytest.mark.parametrize("limits", [{}, {"is_causal": True}, {"sinks": 1, "local": 2}, None])
def test_best_indices(limits: dict[str, int] | None, device: str) -> None:
    bias, mask = normal(2, 1, 6, 40).round(), normal(2, 1, 1, 40, seed=3) > -0.5
    ranges = None if limits is not None else some_ranges(2, 6, 40)
    inputs = SelectionInputs(bias, mask, None, Positions(6, 40, **(limits or {})), -2.0, ranges)
    wanted = reference.best_indices(inputs, (2, 1, 6), 9)
    assert torch.equal(indexer.best_indices(on_device(inputs, device), (2, 1, 6), 9).cpu(), wanted)
