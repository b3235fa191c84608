"""Relu masks of the Triton kernel equal the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import relu as reference
from dmask.kernels.triton import relu
from tests.kernels.triton.rows import DTYPES, KINDS, normal


def check(bias: Tensor, mask: Tensor | None, floor: float, device: str) -> None:
    wanted = reference.relu_mask(bias, mask, floor)
    there = None if mask is None else mask.to(device)
    found = relu.relu_mask(bias.to(device), there, floor)
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 3, 300).to(dtype)
    mask = normal(1, 1, 1, 300, seed=5) > -0.5
    check(bias, None, torch.finfo(dtype).min, device)
    check(bias, mask, 0.5, device)


@pytest.mark.parametrize("floor", [-torch.inf, -1.0, -0.0, 0.0, 1.0, torch.inf])
def test_floors(floor: float, device: str) -> None:
    check(KINDS["special"](1, 1, 2, 64), None, floor, device)


@pytest.mark.parametrize("keys", [0, 1, 2, 31, 33, 5000])
def test_sizes(keys: int, device: str) -> None:
    check(normal(1, 2, 3, keys), None, 0.0, device)
    check(normal(1, 2, 3, keys), normal(1, 2, 3, keys, seed=5) > 0, 0.0, device)


def test_many_rows(device: str) -> None:
    check(normal(2, 3, 67, 20), normal(2, 1, 67, 1) > -1, 0.0, device)
    check(normal(2, 0, 3, 8), None, 0.0, device)


def test_strides(device: str) -> None:
    mask = normal(2, 1, 1, 40, seed=7) > 0
    check(normal(2, 2, 40, 3).transpose(-1, -2), mask, 0.0, device)
    check(normal(2, 1, 1, 40).expand(2, 3, 2, 40), None, 0.0, device)
    check(normal(1, 2, 1, 1).expand(1, 2, 1, 40), mask, 0.0, device)
    check(normal(2, 2, 3, 80)[..., ::2], mask.expand(2, 2, 3, 40), 0.0, device)
    check(normal(1, 1, 3, 40), normal(2, 3, 1, 40) > 0, 0.0, device)
    check(normal(2, 3, 1, 1), normal(1, 1, 5, 48)[..., ::2] > 0, 0.0, device)
