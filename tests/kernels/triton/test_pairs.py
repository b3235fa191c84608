"""Rows of 16-bit scores that are held in pairs equal the reference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dmask.kernels.reference import indices as reference_indices
from dmask.kernels.reference import select as reference_select
from dmask.kernels.reference import topk as reference_topk
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import indices, layout, select, topk
from tests.kernels.triton.rows import KINDS, normal

FLOORS = (torch.finfo(torch.float16).min, -torch.inf, 0.0)


@pytest.fixture(params=[True, False], ids=["alone", "three rows each"])
def _in_pairs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tile_of = layout.tile_of.__wrapped__
    rows_each = 1 if request.param else 3

    def paired(*args: object) -> layout.Tile:
        return tile_of(*args)._replace(alone=request.param, paired=True, rows_each=rows_each)

    for module in (topk, select):
        monkeypatch.setattr(module, "tile_of", paired)
        module._prepared.cache_clear()
    yield
    for module in (topk, select):
        module._prepared.cache_clear()


CASES = [
    *[(torch.bfloat16, kind, 304) for kind in KINDS],  # leaves a part of the tile empty
    *[(torch.float16, kind, 304) for kind in ("special", "denormal")],
    *[(torch.bfloat16, kind, 512) for kind in ("equal", "NaN and infinity")],  # two full lines
    (torch.bfloat16, "special", 8),
]


@pytest.mark.usefixtures("_in_pairs")
@pytest.mark.parametrize(("dtype", "kind", "keys"), CASES)
def test_pairs(dtype: torch.dtype, kind: str, keys: int, device: str) -> None:
    bias = KINDS[kind](1, 1, 4, keys).to(dtype)
    mask = normal(1, 1, 4, keys, seed=5) > -0.5
    for window, allowed, floor in zip(
        (1, keys // 3, keys - 1), (None, mask, None), FLOORS, strict=True
    ):
        there = bias.to(device), None if allowed is None else allowed.to(device)
        wanted = reference_topk.topk_mask(bias, allowed, window, floor, "lowest")
        assert torch.equal(topk.topk_mask(*there, window, floor, "lowest").cpu(), wanted)
        wanted = reference_indices.topk_indices(bias, allowed, window, floor)
        assert torch.equal(indices.topk_indices(*there, window, floor).cpu(), wanted)
        inputs = SelectionInputs(bias, allowed, None, Positions(4, keys), floor)
        bounds = reference_select.select(inputs, (1, 1, 4), window)
        inputs = SelectionInputs(*there, None, Positions(4, keys), floor)
        found = select.select(inputs, (1, 1, 4), window)
        torch.testing.assert_close(found[0].cpu(), bounds[0], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(found[1].cpu(), bounds[1])


@pytest.mark.usefixtures("_in_pairs")
@pytest.mark.parametrize("window", [4, 5, 6])
def test_nan_before_infinity(window: int, device: str) -> None:
    bias = torch.tensor([torch.inf, torch.nan, 1.0, -torch.nan, 2.0, torch.inf] * 4).bfloat16()
    bias[13:20] = 0.0
    bias = bias.view(1, 1, 1, 24)
    assert bias.isnan().sum() == 5
    wanted = reference_topk.topk_mask(bias, None, window, -torch.inf, "lowest")
    assert torch.equal(
        topk.topk_mask(bias.to(device), None, window, -torch.inf, "lowest").cpu(), wanted
    )
    inputs = SelectionInputs(bias, None, None, Positions(1, 24), -torch.inf)
    bounds = reference_select.select(inputs, (1, 1, 1), window)
    found = select.select(inputs._replace(bias=bias.to(device)), (1, 1, 1), window)
    torch.testing.assert_close(found[0].cpu(), bounds[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found[1].cpu(), bounds[1])


@pytest.mark.usefixtures("_in_pairs")
@pytest.mark.parametrize("kind", ["rounded", "special"])
def test_restrictions(kind: str, device: str) -> None:
    bias = KINDS[kind](2, 1, 4, 64).bfloat16()
    lengths = torch.tensor([3, 50])[:, None, None, None]
    positions = Positions(4, 64, is_causal=True, sinks=2, local=3)
    inputs = SelectionInputs(bias, None, lengths, positions, -torch.inf)
    threshold, cutoff = reference_select.select(inputs, (2, 1, 4), 9)
    inputs = SelectionInputs(bias.to(device), None, lengths.to(device), positions, -torch.inf)
    found = select.select(inputs, (2, 1, 4), 9)
    torch.testing.assert_close(found[0].cpu(), threshold, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found[1].cpu(), cutoff)


@pytest.mark.parametrize(
    ("keys", "size", "rows", "paired"),
    [
        (4096, 2, 8, True),  # a multiprocessor each, but too long for a histogram
        (512, 2, 8, False),
        (512, 2, 10_000, True),
        (512, 4, 10_000, False),
        (516, 2, 10_000, False),  # 8 keys do not divide it
    ],
)
def test_which_rows_are_paired(
    keys: int, size: int, rows: int, paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "processors", lambda device: 100)
    call = keys, size, rows, torch.device("cpu")
    tile_of = layout.tile_of.__wrapped__
    assert tile_of(*call).paired == paired
    assert not tile_of(*call, pairs=False).paired
    monkeypatch.setattr(layout, "compares_pairs", lambda device: False)
    assert not tile_of(*call).paired
