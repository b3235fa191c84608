"""Top-k indices of the Triton kernels equal the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import indices as reference
from dmask.kernels.triton import indices
from tests.kernels.triton.rows import DTYPES, KINDS, normal


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_topk_indices(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, 300).to(dtype)
    mask = normal(1, 1, 1, 300, seed=5) > -0.5
    floor = torch.finfo(dtype).min
    for allowed, window in ((None, 1), (None, 150), (mask, 299)):
        there = None if allowed is None else allowed.to(device)
        wanted = reference.topk_indices(bias, allowed, window, floor)
        found = indices.topk_indices(bias.to(device), there, window, floor)
        assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("keys", [0, 1, 40, 64])
def test_windows_wider_than_the_row(keys: int, device: str) -> None:
    bias = normal(1, 1, 2, keys)
    for floor in (0.0, torch.finfo(torch.float32).min):
        wanted = reference.topk_indices(bias, None, 70, floor)
        assert torch.equal(indices.topk_indices(bias.to(device), None, 70, floor).cpu(), wanted)


def check_mask_of(indices_: Tensor, key_len: int, block_size: int, device: str) -> None:
    wanted = reference.mask_of(indices_, key_len, block_size, strict=True)
    found = indices.mask_of(indices_.to(device), key_len, block_size, strict=True)
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("block_size", [1, 2, 3, 16, 129, 2**40])
def test_mask_of(block_size: int, dtype: torch.dtype, device: str) -> None:
    for keys in (1, 2, 33, 300):
        count = -(-keys // block_size)
        named = (normal(2, 3, 2, 9).abs() * count).to(dtype).clamp(max=count - 1)
        named = named.masked_fill(normal(2, 3, 2, 9, seed=4) < -1, -1)
        check_mask_of(named, keys, block_size, device)
    far = torch.iinfo(dtype).min
    check_mask_of(torch.tensor([[[[far, 0, -7, 0]]]], dtype=dtype), 5, block_size, device)


def test_mask_of_nothing(device: str) -> None:
    for shape, keys in (((1, 2, 3, 0), 5), ((0, 2, 3, 4), 5), ((1, 1, 2, 4), 0)):
        check_mask_of(torch.full(shape, -1), keys, 2, device)


def test_mask_of_strided_indices(device: str) -> None:
    named = (normal(2, 3, 6, 5).abs() * 7).int()
    check_mask_of(named.transpose(-1, -2), 40, 1, device)
    check_mask_of(named[:1, :, ::2].expand(4, 3, 3, 5), 80, 2, device)
    check_mask_of(named[..., :1].expand(2, 3, 6, 4), 40, 1, device)


@pytest.mark.parametrize("past", [5, 2**31 - 1, 2**40])
def test_mask_of_indices_past_the_end(past: int, device: str) -> None:
    if device != "cpu":
        pytest.skip("the assertion of a GPU ends all work of the process")
    for named in ([0, past, -1], [past]):
        with pytest.raises(RuntimeError, match="indices must be below 5"):
            indices.mask_of(torch.tensor([[[named]]]), 10, 2, strict=True)
        found = indices.mask_of(torch.tensor([[[named]]]), 10, 2, strict=False)
        wanted = reference.mask_of(torch.tensor([[[named]]]), 10, 2, strict=False)
        assert torch.equal(found, wanted)
