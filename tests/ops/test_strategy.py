"""What holds for every strategy that ranks by more than the score: options, special values, dtypes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from tests.conftest import Mode
from tests.support.scores import scores

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
