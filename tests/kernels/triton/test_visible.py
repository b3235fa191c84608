"""Long rows that see a part of their keys equal the reference. Small tiles make small rows long."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import layout, select, visible
from tests.kernels.triton.rows import DTYPES, KINDS, normal
from tests.kernels.triton.test_select import check, some_ranges

KEYS = 150


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_KEYS", 32)
    monkeypatch.setattr(visible, "MIN_ROWS", 0)
    monkeypatch.setattr(visible, "TILE", 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, KEYS).to(dtype)
    mask = normal(1, 1, 1, KEYS, seed=5) > -0.5
    check(device, bias, 20, (1, 2, 1), is_causal=True, query_len=1)
    check(device, bias, 60, (1, 2, 1), is_causal=True, sinks=3, local=20, query_len=1)
    check(device, bias, 40, (1, 2, 1), mask=mask, floor=0.0, sinks=5)


@pytest.mark.parametrize("sinks", [0, 2, 70])
@pytest.mark.parametrize("local", [0, 3, 2**40])
@pytest.mark.parametrize("lengths", [None, [3, 60], [-1, 0], [1, 95]])
def test_positions(sinks: int, local: int, lengths: list[int] | None, device: str) -> None:
    mask = normal(2, 1, 1, 90, seed=3) > 0
    there = None if lengths is None else torch.tensor(lengths)[:, None, None, None]
    bias = KINDS["rounded"](2, 1, 2, 90)
    always: dict[str, Any] = {"sinks": sinks, "local": local, "lengths": there}
    window = sinks + local + 5
    check(device, bias, max(1, sinks + local), (2, 1, 2), is_causal=True, **always)
    check(device, bias, window, (2, 1, 2), is_causal=True, mask=mask, **always)
    check(device, bias, window, (2, 1, 2), mask=mask, **always)


@pytest.mark.parametrize("always", [{}, {"sinks": 70}, {"sinks": 2, "local": 9}])
def test_ranges(always: dict[str, int], device: str) -> None:
    bias, mask = KINDS["rounded"](2, 1, 8, 90), normal(2, 1, 1, 90, seed=3) > 0
    window = max(11, sum(always.values()))
    for seed in range(4):
        ranges = some_ranges(2, 8, 90, seed)
        check(device, bias, window, (2, 1, 8), ranges=ranges, **always)
        check(device, bias.bfloat16(), window, (2, 1, 8), ranges=ranges, mask=mask, **always)


@pytest.mark.parametrize("queries", [1, 5, 45])
def test_queries(queries: int, device: str) -> None:
    """More queries than keys: the first of them see nothing."""
    some = normal(1, 1, 1, 40)
    check(device, some, 9, (1, 1, queries), is_causal=True, sinks=1, local=2)


def test_strides(device: str) -> None:
    options: dict[str, Any] = {"is_causal": True, "sinks": 2, "local": 3}
    mask = normal(2, 1, 1, 90, seed=7) > 0
    check(device, normal(2, 2, 90, 3).transpose(-1, -2), 9, (2, 2, 3), mask=mask, **options)
    check(device, normal(2, 1, 1, 90).expand(2, 3, 2, 90), 9, (2, 3, 2), **options)
    check(device, normal(2, 2, 3, 180)[..., ::2], 9, (2, 2, 3), **options)
    mask = normal(2, 3, 1, 96)[..., ::2] > 0
    check(device, normal(1, 1, 3, 48), 9, (2, 3, 3), mask=mask, **options)


def test_windows(device: str) -> None:
    """As wide as the row, as what it sees, and as what it always keeps."""
    for window in (1, 4, 5, 6, 87, 88, 89, 90, 200):
        check(device, normal(1, 1, 3, 90), window, (1, 1, 3), is_causal=True)
        if window > 4:
            check(device, normal(1, 1, 3, 90), window, (1, 1, 3), is_causal=True, sinks=2, local=3)


@pytest.mark.parametrize("options", [{"is_causal": True, "local": 2}, {"sinks": 3}])
def test_rows_are_not_left_to_the_reference(
    options: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmask.kernels.triton.select.reference.select", None)
    inputs = SelectionInputs(
        normal(1, 1, 3, 90).to(device), None, None, Positions(3, 90, **options), 0.0
    )
    assert select.select(inputs, (1, 1, 3), 9)[0].shape == (1, 1, 3)
