"""Masks of whole blocks of the Triton kernels equal the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import block_topk as reference
from dmask.kernels.triton import block_topk, tiles
from tests.kernels.triton.rows import DTYPES, KINDS, normal

LOWEST = torch.finfo(torch.float32).min


def check(
    device: str,
    bias: Tensor,
    window: int,
    key_block: int,
    *,
    mask: Tensor | None = None,
    floor: float = LOWEST,
    pool: str = "max",
    queries: int | None = None,
) -> None:
    shape = torch.broadcast_shapes(bias.shape, () if mask is None else mask.shape)
    options = (floor, window, key_block, pool, shape[2] if queries is None else queries)
    wanted = reference.block_topk_mask(bias.expand(-1, -1, -1, shape[3]), mask, *options)
    there = None if mask is None else mask.to(device)
    found = block_topk.block_topk_mask(bias.to(device), there, *options)
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, pool: str, device: str) -> None:
    bias = KINDS[kind](1, 1, 2, 150).to(dtype)
    mask = normal(1, 1, 1, 150, seed=5) > 0.5
    floor = torch.finfo(dtype).min
    for window, key_block in ((1, 4), (40, 7), (150, 64)):
        check(device, bias, window, key_block, floor=floor, pool=pool)
    check(device, bias, 40, 4, mask=mask, floor=floor, pool=pool)
    check(device, bias, 40, 16, mask=mask, floor=0.0, pool=pool)
    check(device, bias, 40, 5, floor=-torch.inf, pool=pool)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("queries", [0, 1, 5, 21])
def test_each_query_keeps_its_own_block(queries: int, pool: str, device: str) -> None:
    mask = normal(2, 1, 1, 18) > 0
    for bias in (normal(2, 1, 1, 18), normal(1, 1, queries, 18)):
        for window in (1, 9):
            check(device, bias, window, 4, queries=queries, pool=pool)
            check(device, bias, window, 3, mask=mask, queries=queries, pool=pool)


@pytest.mark.parametrize("keys", [0, 1, 2, 31, 33, 64, 1000])
def test_sizes(keys: int, device: str) -> None:
    for window, key_block in ((1, 1), (4, 3), (keys + 5, 2), (7, keys + 9), (keys, 500)):
        check(device, normal(1, 1, 2, keys), window, key_block)
        check(device, normal(1, 1, 2, keys), window, key_block, pool="mean")


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_blocks_that_are_larger_than_a_tile(
    pool: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE", 16)
    check(device, normal(1, 2, 3, 200), 90, 45, pool=pool)
    check(device, normal(1, 2, 3, 200), 20, 5, pool=pool)


def test_floors_and_many_blocks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for floor in (-0.0, 0.5, -0.25, torch.inf):
        check(device, KINDS["special"](1, 1, 2, 64), 9, 4, floor=floor)
    monkeypatch.setattr(block_topk, "MAX_BLOCKS", 8)
    check(device, normal(1, 1, 2, 40), 9, 4)


def test_strides(device: str) -> None:
    mask = normal(2, 1, 1, 40, seed=7) > 0
    check(device, normal(2, 2, 40, 3).transpose(-1, -2), 9, 4, mask=mask)
    check(device, normal(2, 1, 1, 40).expand(2, 3, 2, 40), 9, 4)
    check(device, normal(1, 2, 1, 1).expand(1, 2, 1, 40), 9, 4, mask=mask)
    check(device, normal(2, 2, 3, 80)[..., ::2], 9, 4, mask=mask.expand(2, 2, 3, 40))
    check(device, normal(1, 1, 3, 40), 9, 4, mask=normal(2, 3, 1, 40) > 0)
    check(device, normal(2, 0, 3, 8), 9, 4)
