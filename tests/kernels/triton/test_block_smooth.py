"""Smoothed masks of the Triton kernel equal the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import block_smooth as reference
from dmask.kernels.triton import block_smooth, tiles
from tests.kernels.triton.rows import normal


def check(mask: Tensor, block_size: int, device: str) -> None:
    wanted = reference.block_smooth(mask, block_size)
    found = block_smooth.block_smooth(mask.to(device), block_size)
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 7, 16, 100, 129, 2**40])
@pytest.mark.parametrize("keys", [1, 2, 33, 64, 300])
def test_sizes(keys: int, block_size: int, device: str) -> None:
    for least in (-0.5, 0.0, 0.5):
        check(normal(1, 2, 2, keys) > least, block_size, device)


def test_ties_are_dropped(device: str) -> None:
    """Half a block is not more than half; in a short block, half of what it has counts."""
    mask = torch.tensor([True, True, False, False, True, True, True, False, True, False, True])
    check(mask.expand(1, 1, 1, 11), 4, device)
    check(mask[:10].expand(1, 1, 1, 10), 4, device)


def test_blocks_that_are_larger_than_a_tile(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 16)
    for block_size in (5, 30, 77, 200):
        check(normal(1, 2, 2, 200) > 0, block_size, device)


def test_nothing(device: str) -> None:
    check(torch.ones(2, 0, 3, 8, dtype=torch.bool), 4, device)
    check(torch.ones(2, 1, 3, 0, dtype=torch.bool), 4, device)


def test_strides(device: str) -> None:
    check((normal(2, 2, 40, 3) > 0).transpose(-1, -2), 6, device)
    check((normal(2, 1, 1, 40) > 0).expand(2, 3, 2, 40), 6, device)
    check((normal(2, 2, 3, 80) > 0)[..., ::2], 6, device)
    check((normal(2, 2, 3, 1) > 0).expand(2, 2, 3, 40), 6, device)
