"""The strategy `relu`, against the plain loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

import dmask
from tests.support.generate import Call, calls
from tests.support.oracle import (
    oracle_mask,
)


@pytest.mark.usefixtures("way")
@settings(max_examples=300)
@given(calls())
def test_relu_equals_the_loop(call: Call) -> None:
    expected = oracle_mask(
        call.bias,
        call.mask,
        call.sizes,
        None,
        floor=call.floor,
        heads=call.heads,
        strategy="relu",
    )
    got = dmask.create_mask(
        call.bias, call.mask, *call.sizes, call.window_size, call.min_dtype, type="relu"
    )
    assert torch.equal(got, expected)
