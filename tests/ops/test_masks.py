"""The op `as_bool`: integer masks."""

from __future__ import annotations

import pytest
import torch

import dmask
from tests.support.scores import scores


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int8])
def test_integer_masks_are_masks(dtype: torch.dtype) -> None:
    mask = scores(2, 16) > 0
    expected = dmask.create_mask(scores(2, 1, 1, 16), mask, 2, 1, 16, 4)
    got = dmask.create_mask(scores(2, 1, 1, 16), mask.to(dtype), 2, 1, 16, 4)
    assert torch.equal(got, expected)
