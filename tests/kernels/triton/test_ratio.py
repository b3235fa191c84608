"""Ratio masks of the Triton kernel equal the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import ratio as reference
from dmask.kernels.triton import layout, ratio
from tests.kernels.triton.rows import DTYPES, KINDS, normal

LOWEST = torch.finfo(torch.float32).min


def check(
    device: str,
    bias: Tensor,
    share: float,
    *,
    mask: Tensor | None = None,
    floor: float = LOWEST,
    window: int | None = None,
) -> None:
    keys = torch.broadcast_shapes(bias.shape, () if mask is None else mask.shape)[3]
    wanted = reference.ratio_mask(bias.expand(-1, -1, -1, keys), mask, floor, share, window)
    there = None if mask is None else mask.to(device)
    found = ratio.ratio_mask(bias.to(device), there, floor, share, window)
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, 300).to(dtype)
    mask = normal(1, 1, 1, 300, seed=5) > -0.5
    floor = torch.finfo(dtype).min
    check(device, bias, 0.25, floor=floor)
    check(device, bias, 1.0, floor=floor, window=40)
    check(device, bias, 0.9, floor=floor, mask=mask)
    check(device, bias, 0.5, floor=0.0, mask=mask)
    check(device, bias, 0.07, floor=-torch.inf)


@pytest.mark.parametrize("keys", range(97, 103))
def test_shares_that_are_nearly_whole(keys: int, device: str) -> None:
    """Rounding of the product decides: 0.07 * 100 is more than 7, and 0.29 * 100 less than 29."""
    bias = normal(1, 1, 2, keys)
    for share in (0.07, 0.29, 1 / 3, 0.56, 1e-11, 1e-300, 5e-324):
        check(device, bias, share)


@pytest.mark.parametrize("floor", [-0.0, 0.5, -0.25, torch.inf])
def test_floors(floor: float, device: str) -> None:
    check(device, KINDS["special"](1, 1, 2, 64), 0.3, floor=floor)


@pytest.mark.parametrize("keys", [0, 1, 2, 31, 33, 64, 1000])
def test_sizes(keys: int, device: str) -> None:
    for share, window in ((0.001, None), (0.4, keys + 5), (1.0, None), (1.0, 1)):
        check(device, normal(1, 1, 2, keys), share, window=window)


def test_rows_that_are_long_or_missing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(device, normal(2, 0, 3, 8), 0.5)
    monkeypatch.setattr(layout, "MAX_KEYS", 32)
    check(device, normal(1, 1, 2, 40), 0.5)


def test_strides(device: str) -> None:
    mask = normal(2, 1, 1, 40, seed=7) > 0
    check(device, normal(2, 2, 40, 3).transpose(-1, -2), 0.3, mask=mask)
    check(device, normal(2, 1, 1, 40).expand(2, 3, 2, 40), 0.3)
    check(device, normal(1, 2, 1, 1).expand(1, 2, 1, 40), 0.3, mask=mask)
    check(device, normal(2, 2, 3, 80)[..., ::2], 0.3, mask=mask.expand(2, 2, 3, 40))
    check(device, normal(1, 1, 3, 40), 0.3, mask=normal(2, 3, 1, 40) > 0)


@pytest.mark.usefixtures("three_rows_each")
def test_neighboring_rows(device: str) -> None:
    """A program takes several rows, each with a budget of its own."""
    rows = torch.cat([normal(1, 1, 3, 50), normal(1, 1, 2, 50) * 1e9, -normal(1, 1, 3, 50)], dim=2)
    mask = normal(1, 1, 8, 50, seed=3) > torch.linspace(-2, 3, 8)[:, None]
    check(device, rows, 0.4, mask=mask)
    check(device, rows, 0.9, mask=mask, window=7)
