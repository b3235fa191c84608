"""Rows that are split over programs equal the reference. Small splits make small rows long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dmask.kernels.reference import indices as reference_indices
from dmask.kernels.reference import select as reference_select
from dmask.kernels.reference import topk as reference_topk
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import indices, layout, long_rows, sampling, select, topk
from tests.kernels.triton.rows import DTYPES, KINDS, normal

PROCESSORS = 10
"""Splits of two rows in these tests, so that a program writes one."""


@pytest.fixture(autouse=True)
def _small_splits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for remembered in (sampling.sample_of, long_rows._launches):
        remembered.cache_clear()
    monkeypatch.setattr(layout, "processors", lambda device: PROCESSORS)
    monkeypatch.setattr(layout, "MAX_KEYS", 32)
    monkeypatch.setattr(sampling, "MAXIMA", (64, 64))
    monkeypatch.setattr(sampling, "ROOM", (64, 128))
    monkeypatch.setattr(long_rows, "SPLIT", 128)
    yield
    for remembered in (sampling.sample_of, long_rows._launches):
        remembered.cache_clear()


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


@pytest.mark.parametrize("processors", [1, PROCESSORS // 2])
def test_programs_write_several_splits(
    processors: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "processors", lambda device: processors)
    for kind in ("normal", "special", "-inf"):
        long_rows._launches.cache_clear()
        test_kinds_of_scores(torch.float32, kind, device)


def test_few_rows_are_passed_over_again(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys between the ends of a bracket fit for ordinary rows, and hold the threshold."""
    monkeypatch.setattr(sampling, "MAXIMA", (256, 256))
    monkeypatch.setattr(sampling, "ROOM", (256, 1024))
    bias = normal(1, 1, 6, 2000).to(device)
    rows = layout.broadcast_rows(bias, None, tuple(bias.shape))
    bounds = torch.empty(6, device=device), torch.empty(6, dtype=torch.int32, device=device)
    for remembered in (sampling.sample_of, long_rows._launches):
        remembered.cache_clear()
    notes, splits = long_rows.bounds("select", rows, 500, 0.0, *bounds).cpu(), -(-2000 // 128)
    words = notes[:, long_rows.HEAD :]
    first, second = words[:, :splits], words[:, splits : 2 * splits]
    above_low, at_high = (first >> 16).sum(1), (second & 0xFFFF).sum(1)
    between = above_low - at_high
    assert torch.equal(between, notes[:, 2])
    assert ((at_high < 500) & (above_low >= 500) & (between < 1024)).sum() >= 5


@pytest.mark.parametrize("window", [1, 60, 300, 599, 600])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_plateaus(share: float, window: int, device: str) -> None:
    """Rows that are mostly one score, which may be the threshold, at either end of the bracket."""
    flat = torch.rand(1, 2, 1, 600, generator=torch.Generator().manual_seed(3)) < share
    bias = torch.where(flat, 0.25, normal(1, 2, 1, 600, seed=7))
    for floor in (torch.finfo(torch.float32).min, 0.25, 5.0):
        wanted = reference_topk.topk_mask(bias, None, window, floor, "lowest")
        there = bias.to(device)
        assert torch.equal(topk.topk_mask(there, None, window, floor, "lowest").cpu(), wanted)
        wanted = reference_indices.topk_indices(bias, None, window, floor)
        assert torch.equal(indices.topk_indices(there, None, window, floor).cpu(), wanted)


def test_windows_as_wide_as_the_row(device: str) -> None:
    bias, mask = normal(1, 1, 2, 300), normal(1, 1, 1, 300, seed=5) > -0.5
    wanted = reference_topk.topk_mask(bias, mask, 300, -3.0, "lowest")
    found = topk.topk_mask(bias.to(device), mask.to(device), 300, -3.0, "lowest")
    assert torch.equal(found.cpu(), wanted)
