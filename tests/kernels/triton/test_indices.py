"""Top-k indices of the Triton kernels equal the reference."""

from __future__ import annotations

import pytest
import torch

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
