"""Masks equal the inlined path and the plain-loop oracle, bit for bit, on generated calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import dmask
from dmask.contracts import dispatch
from dmask.contracts.spec import forget_plans
from dmask.kernels.cpu import parallel
from tests.generate import Call, calls
from tests.oracle import inlined_path, oracle_mask, oracle_smooth

EXAMPLES = {"eager": 2500, "compiled": 60}


@pytest.fixture(autouse=True, params=["fast way", "few scores"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU's way of large masks, cut up even where there is little, and that of small ones."""
    forget_plans()
    if request.param == "fast way":
        monkeypatch.setattr(dispatch, "FEW_SCORES", 0)
        monkeypatch.setattr(parallel, "PART_SCORES", 32)
    yield
    forget_plans()


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


def full(call: Call) -> tuple[Tensor, Tensor | None]:
    """Bias and bool mask of a call, expanded to the result's shape by means of plain indexing."""
    keys = call.sizes[2]
    b, q = (0 if 0 in sizes else max(sizes) for sizes in (_dims(call, 0), _dims(call, 2)))

    def expand(tensor: Tensor) -> Tensor:
        head = torch.arange(call.heads) // (call.heads // tensor.shape[1])
        return tensor[:, head].expand(b, call.heads, q, keys)

    if call.mask is None:
        return expand(call.bias), None
    mask = call.mask != 0
    if mask.dim() == 2:
        cached = torch.ones(mask.shape[0], keys - mask.shape[1], dtype=torch.bool)
        mask = torch.cat([cached, mask], dim=1)[:, None, None, :]
    return expand(call.bias), expand(mask)


def _dims(call: Call, dim: int) -> list[int]:
    sizes = [call.bias.shape[dim]]
    if call.mask is not None and call.mask.dim() == 4:
        sizes.append(call.mask.shape[dim])
    elif call.mask is not None and dim == 0:
        sizes.append(call.mask.shape[0])
    return sizes


@pytest.mark.parametrize("mode", EXAMPLES)
def test_torch_ties_equal_the_inlined_path(mode: str) -> None:
    def check(call: Call, create_mask: Callable[..., Tensor]) -> None:
        bias, mask = full(call)
        window = min(call.window_size, call.sizes[2])
        expected = inlined_path(bias, mask, window, call.floor)
        # The one deliberate difference: scores below the floor are dropped, not kept.
        expected &= ~(bias <= call.floor)
        got = create_mask(call.bias, call.mask, *call.sizes, call.window_size, call.min_dtype)
        assert got.shape == expected.shape
        assert torch.equal(got, expected)

    check_on_calls(mode, check)


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


@settings(max_examples=300)
@given(calls())
def test_indices_are_the_mask_with_lowest_ties(call: Call) -> None:
    bias, mask = full(call)
    kept = dmask.topk_mask(bias, mask, call.window_size, call.min_dtype, tie_break="lowest")
    indices = dmask.topk_indices(bias, mask, call.window_size, call.min_dtype)
    assert indices.dtype is torch.int32
    assert indices.shape == (*kept.shape[:3], call.window_size)
    for row, chosen in zip(kept.flatten(0, 2), indices.flatten(0, 2), strict=True):
        expected = row.nonzero().flatten().tolist()
        assert chosen.tolist() == expected + [-1] * (call.window_size - len(expected))


@settings(max_examples=300)
@given(calls(), calls())
def test_smoothing_equals_the_loop(call: Call, other: Call) -> None:
    block_size = other.window_size
    bias, mask = full(call)
    kept = dmask.create_mask(bias, mask, *call.sizes, call.window_size, call.min_dtype)
    scores = bias if mask is None else bias.masked_fill(~mask, call.floor)
    expected = kept if block_size == 1 else oracle_smooth(kept, block_size, ~(scores <= call.floor))
    arguments = (call.bias, call.mask, *call.sizes, call.window_size, call.min_dtype, block_size)
    assert torch.equal(dmask.create_mask(*arguments), expected)
