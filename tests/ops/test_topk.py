"""The strategy `topk`: against the inlined path and the plain loop, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import dmask
from tests.support.generate import Call, calls
from tests.support.inlined import inlined_path
from tests.support.oracle import (
    oracle_mask,
)
from tests.support.scores import scores

EXAMPLES = {"eager": 2500, "compiled": 60}


def check_on_calls(mode: str, check: Callable[[Call, Callable[..., Tensor]], None]) -> None:
    """Runs `check` with `create_mask`, eager on many generated calls or compiled on fewer."""

    @settings(max_examples=EXAMPLES[mode], suppress_health_check=list(HealthCheck))
    @given(calls())
    def run(call: Call) -> None:
        create_mask = dmask.create_mask
        if mode == "compiled":
            torch.compiler.reset()
            create_mask = torch.compile(create_mask, fullgraph=True, backend="eager")
        before = (call.bias.clone(), None if call.mask is None else call.mask.clone())
        check(call, create_mask)
        torch.testing.assert_close(call.bias, before[0], rtol=0, atol=0, equal_nan=True)
        assert call.mask is None or torch.equal(call.mask, before[1])

    run()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", EXAMPLES)
def test_torch_ties_equal_the_inlined_path(mode: str) -> None:
    def check(call: Call, create_mask: Callable[..., Tensor]) -> None:
        bias, mask = call.full()
        window = min(call.window_size, call.sizes[2])
        expected = inlined_path(bias, mask, window, call.floor)
        # The one intended difference: scores below the floor are dropped, not kept.
        expected &= ~(bias <= call.floor)
        got = create_mask(call.bias, call.mask, *call.sizes, call.window_size, call.min_dtype)
        assert got.shape == expected.shape
        assert torch.equal(got, expected)

    check_on_calls(mode, check)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", EXAMPLES)
def test_lowest_ties_equal_the_loop(mode: str) -> None:
    def check(call: Call, create_mask: Callable[..., Tensor]) -> None:
        expected = oracle_mask(
            call.bias, call.mask, call.sizes, call.window_size, floor=call.floor, heads=call.heads
        )
        got = create_mask(
            call.bias,
            call.mask,
            *call.sizes,
            call.window_size,
            call.min_dtype,
            tie_break="lowest",
        )
        assert got.shape == expected.shape
        assert torch.equal(got, expected)

    check_on_calls(mode, check)


def test_minus_infinity_is_never_kept_and_nan_always() -> None:
    bias = torch.tensor([[[[-float("inf"), 1.0, float("nan"), -float("inf")]]]])
    for tie_break in ("torch", "lowest"):
        for window in (3, 4, 9):
            got = dmask.topk_mask(bias, None, window, tie_break=tie_break)
            assert got.flatten().tolist() == [False, True, True, False]
        assert dmask.topk_mask(bias, None, 1).flatten().tolist() == [False, False, True, False]
    assert dmask.relu_mask(bias, None).flatten().tolist() == [False, True, True, False]


def test_lowest_ties_depend_on_the_row_alone() -> None:
    bias = scores(4, 2, 6, 64).mul(2).round()  # few distinct scores: every row ties
    whole = dmask.topk_mask(bias, None, 10, tie_break="lowest")
    for b in range(4):
        for q in range(6):
            row = dmask.topk_mask(bias[b, None, :, q, None], None, 10, tie_break="lowest")
            assert torch.equal(row, whole[b, None, :, q, None])
    padded = torch.nn.functional.pad(bias, (0, 37))
    allowed = torch.arange(101) < 64
    got = dmask.topk_mask(padded, allowed[None, None, None], 10, tie_break="lowest")
    assert torch.equal(got[..., :64], whole)
    assert not got[..., 64:].any()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_rank_like_their_values(dtype: torch.dtype) -> None:
    bias = scores(1, 2, 3, 16).to(dtype)
    got = dmask.topk_mask(bias, None, 5, tie_break="lowest")
    assert torch.equal(got, dmask.topk_mask(bias.float(), None, 5, tie_break="lowest"))
