"""Top-k masks of the Triton kernels equal the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import topk as reference
from dmask.kernels.triton import topk
from tests.kernels.triton.rows import DTYPES, KINDS, normal


def check(bias: Tensor, mask: Tensor | None, window: int, floor: float, device: str) -> None:
    wanted = reference.topk_mask(bias, mask, min(window, bias.shape[-1]), floor, "lowest")
    there = None if mask is None else mask.to(device)
    found = topk.topk_mask(bias.to(device), there, window, floor, "lowest")
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, 300).to(dtype)
    mask = normal(1, 1, 1, 300, seed=5) > -0.5
    for window in (1, 20, 150, 300):
        check(bias, None, window, torch.finfo(dtype).min, device)
    check(bias, mask, 40, torch.finfo(dtype).min, device)
    check(bias, mask, 40, 0.0, device)
    check(bias, None, 40, -torch.inf, device)


@pytest.mark.parametrize("floor", [-0.0, 0.5, -0.25, torch.inf])
def test_floors(floor: float, device: str) -> None:
    check(KINDS["special"](1, 1, 2, 64), None, 9, floor, device)


@pytest.mark.parametrize("keys", [0, 1, 2, 31, 33, 1000])
def test_sizes(keys: int, device: str) -> None:
    for window in {1, max(1, keys // 3), max(1, keys), keys + 5}:
        check(normal(1, 1, 2, keys), None, window, torch.finfo(torch.float32).min, device)


def test_no_rows(device: str) -> None:
    check(normal(2, 0, 3, 8), None, 2, 0.0, device)


def test_strides(device: str) -> None:
    floor = torch.finfo(torch.float32).min
    mask = normal(2, 1, 1, 40, seed=7) > 0
    check(normal(2, 2, 40, 3).transpose(-1, -2), mask, 9, floor, device)
    check(normal(2, 1, 1, 40).expand(2, 3, 2, 40), None, 9, floor, device)
    check(normal(1, 2, 1, 1).expand(1, 2, 1, 40), mask, 9, floor, device)
    check(normal(2, 2, 3, 80)[..., ::2], mask.expand(2, 2, 3, 40), 9, floor, device)
    check(normal(1, 1, 3, 40), normal(2, 3, 1, 40) > 0, 9, floor, device)


@pytest.mark.usefixtures("three_rows_each")
def test_neighboring_rows(device: str) -> None:
    """A program takes several rows; what one leaves for the next must not change it."""
    rows = torch.cat([normal(1, 1, 3, 50), normal(1, 1, 2, 50) * 1e9, -normal(1, 1, 3, 50)], dim=2)
    check(rows, normal(1, 1, 8, 50) > 0, 7, torch.finfo(torch.float32).min, device)
