"""Rows that are split over programs equal the reference. Small splits make small rows long."""

from __future__ import annotations

import pytest
import torch

from dmask.kernels.reference import indices as reference_indices
from dmask.kernels.reference import select as reference_select
from dmask.kernels.reference import topk as reference_topk
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import indices, layout, long_rows, select, topk
from tests.kernels.triton.rows import DTYPES, KINDS, normal


@pytest.fixture(autouse=True)
def _small_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_KEYS", 32)
    monkeypatch.setattr(long_rows, "MIN_ROWS", 0)
    monkeypatch.setattr(long_rows, "SAMPLE", 64)
    monkeypatch.setattr(long_rows, "SPLIT", 128)
    monkeypatch.setattr(long_rows, "ROOM", (64, 128))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, 600).to(dtype)
    floor = torch.finfo(dtype).min
    for window, mask in ((30, None), (1, None), (599, normal(1, 1, 1, 600, seed=5) > -0.5)):
        there = bias.to(device), None if mask is None else mask.to(device)
        wanted = reference_topk.topk_mask(bias, mask, window, floor, "lowest")
        assert torch.equal(topk.topk_mask(*there, window, floor, "lowest").cpu(), wanted)
        wanted = reference_indices.topk_indices(bias, mask, window, floor)
        assert torch.equal(indices.topk_indices(*there, window, floor).cpu(), wanted)
        inputs = SelectionInputs(bias, mask, None, Positions(1, 600), floor)
        bounds = reference_select.select(inputs, (1, 2, 1), window)
        inputs = SelectionInputs(*there, None, Positions(1, 600), floor)
        found = select.select(inputs, (1, 2, 1), window)
        torch.testing.assert_close(found[0].cpu(), bounds[0], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(found[1].cpu(), bounds[1])


def test_the_lucky_way_is_taken(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ordinary rows, few are passed over again: their keys in between fit."""
    monkeypatch.setattr(long_rows, "SAMPLE", 256)
    monkeypatch.setattr(long_rows, "ROOM", (256, 1024))
    bias = normal(1, 1, 6, 2000).to(device)
    rows = layout.broadcast_rows(bias, None, tuple(bias.shape))
    scratch = long_rows._scratch(rows, 6, 1024)
    monkeypatch.setattr(long_rows, "_scratch", lambda *args: scratch)
    bounds = torch.empty(6, device=device), torch.empty(6, dtype=torch.int32, device=device)
    long_rows.bounds("select", rows, 500, 0.0, *bounds)
    reaching, above, between = scratch[1].cpu().unbind(1)
    assert ((above < 500) & (reaching >= 500) & (between < 1024)).sum() >= 5


def test_windows_as_wide_as_the_row(device: str) -> None:
    bias, mask = normal(1, 1, 2, 300), normal(1, 1, 1, 300, seed=5) > -0.5
    wanted = reference_topk.topk_mask(bias, mask, 300, -3.0, "lowest")
    found = topk.topk_mask(bias.to(device), mask.to(device), 300, -3.0, "lowest")
    assert torch.equal(found.cpu(), wanted)
