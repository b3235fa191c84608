"""The op `as_bool`: integer masks of 0 and 1."""

from __future__ import annotations

import pytest
import torch

import dmask
from tests.conftest import Mode
from tests.support.scores import allowed, scores

DTYPES = [torch.int64, torch.int32, torch.uint8, torch.int8]


@pytest.mark.parametrize("dtype", DTYPES)
def test_integer_masks_are_masks(dtype: torch.dtype) -> None:
    mask = scores(2, 16) > 0
    expected = dmask.create_mask(scores(2, 1, 1, 16), mask, 2, 1, 16, 4)
    got = dmask.create_mask(scores(2, 1, 1, 16), mask.to(dtype), 2, 1, 16, 4)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_bool_converts_zeros_and_ones(dtype: torch.dtype, mode: Mode) -> None:
    mask = allowed(2, 1, 3, 16)
    assert torch.equal(mode(torch.ops.dmask.as_bool)(mask.to(dtype)), mask)


@pytest.mark.parametrize("value", [-1, 2, -10000])
def test_other_values_are_errors(value: int, mode: Mode) -> None:
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 7] = value
    bias = scores(2, 1, 1, 16)
    calls = [
        lambda: torch.ops.dmask.as_bool(mask),
        lambda: dmask.create_mask(bias, mask, 2, 1, 16, 4),
        lambda: dmask.select(bias, 4, attention_mask=mask).threshold,
        lambda: dmask.block_smooth(bias > 0, 4, mask[:, None, None]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"attention_mask must contain only 0 .* and 1 "):
            mode(call)()
