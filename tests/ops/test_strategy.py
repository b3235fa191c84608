"""Tests that apply to every strategy with options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from tests.conftest import Mode
from tests.ops.samples import STRATEGIES
from tests.support.scores import scores


@pytest.mark.parametrize("type", STRATEGIES)
@pytest.mark.parametrize("special", [math.nan, math.inf])
def test_nan_and_infinity_are_kept(type: str, special: float) -> None:
    bias = scores(1, 1, 1, 12)
    bias[..., 5] = special
    kept = dmask.create_mask(bias, None, 1, 1, 12, 8, type=type, options=STRATEGIES[type])
    assert kept[..., 5].all()


@pytest.mark.parametrize("type", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_dtypes_rank_like_their_values(type: str, dtype: torch.dtype) -> None:
    bias = scores(2, 2, 3, 12).to(dtype)
    got, wanted = (
        dmask.create_mask(b, None, 2, 3, 12, 8, -4.0, type=type, options=STRATEGIES[type])
        for b in (bias, bias.double())
    )
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("type", STRATEGIES)
def test_compiled_with_options_from_outside(type: str, mode: Mode) -> None:
    """With dynamic=True, numbers in a dict argument are symbolic."""
    bias, mask = scores(2, 4, 3, 16), scores(2, 16) > -1

    def fn(bias: Tensor, mask: Tensor, options: dict[str, Any]) -> Tensor:
        return dmask.create_mask(bias, mask, 2, 3, 16, 8, type=type, options=options)

    compiled = torch.compile(fn, fullgraph=True, backend="eager", dynamic=True)
    changed = {
        name: value / 2 if isinstance(value, float) else value
        for name, value in STRATEGIES[type].items()
    }
    for options in (STRATEGIES[type], changed):
        assert torch.equal(compiled(bias, mask, options), fn(bias, mask, options))
        assert torch.equal(mode(fn)(bias, mask, options), fn(bias, mask, options))


def test_vmap() -> None:
    biases = scores(5, 2, 4, 3, 16)
    for type, options in STRATEGIES.items():

        def fn(bias: Tensor, type: str = type, options: dict[str, Any] = options) -> Tensor:
            return dmask.create_mask(bias, None, 2, 3, 16, 8, type=type, options=options)

        assert torch.equal(torch.func.vmap(fn)(biases), torch.stack([fn(b) for b in biases]))
