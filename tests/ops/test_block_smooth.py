"""The op `block_smooth`, against the plain loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

import dmask
from tests.support.generate import Call, calls
from tests.support.oracle import (
    oracle_smooth,
)


@pytest.mark.usefixtures("way")
@settings(max_examples=300)
@given(calls(), calls())
def test_smoothing_equals_the_loop(call: Call, other: Call) -> None:
    block_size = other.window_size
    bias, mask = call.full()
    kept = dmask.create_mask(bias, mask, *call.sizes, call.window_size, call.min_dtype)
    scores = bias if mask is None else bias.masked_fill(~mask, call.floor)
    expected = kept if block_size == 1 else oracle_smooth(kept, block_size, ~(scores <= call.floor))
    arguments = (call.bias, call.mask, *call.sizes, call.window_size, call.min_dtype, block_size)
    assert torch.equal(dmask.create_mask(*arguments), expected)


def test_smoothing_counts_a_short_last_block_by_its_own_keys() -> None:
    kept = torch.tensor([[[[True, False, False, True, True, False, True]]]])
    smooth = dmask.block_smooth(kept, 3)
    assert smooth.flatten().tolist() == [False] * 3 + [True] * 3 + [True]
