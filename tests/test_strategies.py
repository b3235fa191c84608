"""The strategies `topp`, `ratio` and `block_topk`, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import dmask
from tests.conftest import Mode
from tests.generate import Call, calls
from tests.oracle import oracle_block_topk, oracle_ratio, oracle_topp
from tests.test_mask import scores
from tests.test_parity import full


def eligible_scores(call: Call) -> Tensor:
    """The scores of a call in its full shape, NaN where a key cannot be kept."""
    bias, mask = full(call)
    out = bias <= call.floor
    if mask is not None:
        out = out | ~mask
    return bias.double().masked_fill(out, math.nan)


def check_rows(
    call: Call,
    got: Tensor,
    choose: Callable[[int, list[float]], set[int]],
    queries: int | None = None,
) -> None:
    rows = eligible_scores(call)
    if queries is not None:
        rows = rows.expand(-1, -1, queries, -1)
    assert got.shape == rows.shape
    for place in torch.cartesian_prod(*(torch.arange(n) for n in rows.shape[:3])).tolist():
        kept = got[tuple(place)].nonzero().flatten().tolist()
        assert kept == sorted(choose(place[2], rows[tuple(place)].tolist()))


def finite(call: Call) -> Call:
    """With every score a number: what NaN and infinity do is tested apart."""
    bias = call.bias.nan_to_num(nan=0.5, posinf=2.0, neginf=-2.0)
    return Call(bias, call.mask, call.sizes, call.window_size, call.min_dtype, call.heads)


windows = st.sampled_from([None, 1, 3, 8])
many = settings(max_examples=300, suppress_health_check=list(HealthCheck))


@many
@given(calls(), windows, st.sampled_from([0.1, 0.5, 0.87, 1.0]))
def test_topp_keeps_the_fewest_keys_that_reach_the_mass(
    call: Call, window_size: int | None, p: float
) -> None:
    call = finite(call)
    got = dmask.create_mask(
        call.bias,
        call.mask,
        *call.sizes,
        window_size,
        call.min_dtype,
        type="topp",
        options={"p": p},
    )
    rows = eligible_scores(call)
    if p == 1.0 and window_size is None:
        assert torch.equal(got, ~rows.isnan())
    elif p < 1.0:
        check_rows(call, got, lambda _, row: oracle_topp(row, window_size, p))


@many
@given(calls(), windows, st.sampled_from([1, 7, 10, 30, 50, 70, 100]))
def test_ratio_keeps_a_share_of_the_eligible_keys(
    call: Call, window_size: int | None, percent: int
) -> None:
    call = finite(call)
    got = dmask.create_mask(
        call.bias,
        call.mask,
        *call.sizes,
        window_size,
        call.min_dtype,
        type="ratio",
        options={"ratio": percent / 100},
    )
    check_rows(call, got, lambda _, row: oracle_ratio(row, window_size, percent))


@many
@given(calls(), st.sampled_from([1, 2, 5]), st.sampled_from(["max", "mean"]))
def test_block_topk_keeps_whole_blocks(call: Call, key_block: int, pool: str) -> None:
    call = finite(call)
    if pool == "mean":  # quarters add up exactly, whatever their order
        call = Call(
            (call.bias * 4).round() / 4,
            call.mask,
            call.sizes,
            call.window_size,
            call.min_dtype,
            call.heads,
        )
    got = dmask.create_mask(
        call.bias,
        call.mask,
        *call.sizes,
        call.window_size,
        call.min_dtype,
        type="block_topk",
        options={"key_block": key_block, "pool": pool},
    )
    _, queries, keys = call.sizes  # a row per query, each with its own block
    check_rows(
        call,
        got,
        lambda q, row: oracle_block_topk(
            row, q + keys - queries, call.window_size, key_block, pool
        ),
        queries,
    )


OPTIONS: dict[str, dict[str, Any]] = {
    "topp": {"p": 0.5},
    "ratio": {"ratio": 0.25},
    "block_topk": {"key_block": 4, "pool": "mean"},
}


@pytest.mark.parametrize("type", OPTIONS)
@pytest.mark.parametrize("special", [math.nan, math.inf])
def test_nan_and_infinity_are_kept(type: str, special: float) -> None:
    bias = scores(1, 1, 1, 12)
    bias[..., 5] = special
    kept = dmask.create_mask(bias, None, 1, 1, 12, 8, type=type, options=OPTIONS[type])
    assert kept[..., 5].all()


@pytest.mark.parametrize("type", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_dtypes_rank_as_their_numbers(type: str, dtype: torch.dtype) -> None:
    bias = scores(2, 2, 3, 12).to(dtype)
    got, wanted = (
        dmask.create_mask(b, None, 2, 3, 12, 8, -4.0, type=type, options=OPTIONS[type])
        for b in (bias, bias.double())
    )
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("type", OPTIONS)
def test_compiled_with_options_from_outside(type: str, mode: Mode) -> None:
    """A number in a dict that comes from outside is symbolic under dynamic=True."""
    bias, mask = scores(2, 4, 3, 16), scores(2, 16) > -1

    def fn(bias: Tensor, mask: Tensor, options: dict[str, Any]) -> Tensor:
        return dmask.create_mask(bias, mask, 2, 3, 16, 8, type=type, options=options)

    compiled = torch.compile(fn, fullgraph=True, backend="eager", dynamic=True)
    changed = {
        name: value / 2 if isinstance(value, float) else value
        for name, value in OPTIONS[type].items()
    }
    for options in (OPTIONS[type], changed):
        assert torch.equal(compiled(bias, mask, options), fn(bias, mask, options))
        assert torch.equal(mode(fn)(bias, mask, options), fn(bias, mask, options))


@pytest.mark.parametrize("type", OPTIONS)
def test_opcheck(type: str) -> None:
    op = getattr(torch.ops.dmask, f"{type}_mask").default
    for bias in (scores(2, 4, 3, 16), scores(2, 2, 1, 16).bfloat16().requires_grad_()):
        for mask in (None, scores(2, 4, 3, 16) > -0.5):
            torch.library.opcheck(op, (bias, mask, 8), OPTIONS[type])
            torch.library.opcheck(op, (bias, mask, 8))


def test_vmap() -> None:
    biases = scores(5, 2, 4, 3, 16)
    for type, options in OPTIONS.items():

        def fn(bias: Tensor, type: str = type, options: dict[str, Any] = options) -> Tensor:
            return dmask.create_mask(bias, None, 2, 3, 16, 8, type=type, options=options)

        assert torch.equal(torch.func.vmap(fn)(biases), torch.stack([fn(b) for b in biases]))
