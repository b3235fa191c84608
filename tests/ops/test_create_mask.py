"""The op `create_mask` and its helper functions: shapes, masks, layouts, transforms."""

from __future__ import annotations

import inspect
from typing import Any

import expecttest
import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev, jvp, vmap

import dmask
from tests.conftest import Mode
from tests.support.inlined import inlined_path
from tests.support.loop import loop
from tests.support.scores import allowed, scores


def test_signatures_are_the_ones_call_sites_use() -> None:
    text = "\n".join(
        f"{name}({', '.join(map(_parameter, inspect.signature(getattr(dmask, name)).parameters.values()))})"
        for name in ("maybe_create_mask", "create_mask", "dynamic_mask", "topk_mask", "relu_mask")
    )
    expecttest.assert_expected_inline(
        text,
        """\
maybe_create_mask(attention_bias, attention_mask, batch_size, query_len, key_len, window_size, min_dtype=None, block_size=None, type='topk', *tie_break='torch', *options=None)
create_mask(attention_bias, attention_mask, batch_size, query_len, key_len, window_size, min_dtype=None, block_size=None, type='topk', *tie_break='torch', *options=None)
dynamic_mask(attention_bias, attention_mask, window_size, min_dtype=None, *tie_break='torch')
topk_mask(attention_bias, attention_mask, window_size, min_dtype=None, *tie_break='torch')
relu_mask(attention_bias, attention_mask, min_dtype=None)""",
    )


def _parameter(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else ""
    default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
    return f"{star}{parameter.name}{default}"


@pytest.mark.parametrize("window_size", [None, 16, 17])
def test_maybe_passes_the_given_object_through(window_size: int | None) -> None:
    given = torch.ones(2, 16)  # a float mask is invalid, but must not be checked
    for mask in (given, None, "anything"):
        integers = torch.zeros(2, 1, 1, 16, dtype=torch.int64)
        assert dmask.maybe_create_mask(integers, mask, 2, 1, 16, window_size) is mask


def test_maybe_creates_a_mask_if_keys_exceed_the_window(mode: Mode) -> None:
    bias = scores(2, 3, 4, 16)
    mask = torch.ones(2, 16, dtype=torch.bool)
    got = mode(dmask.maybe_create_mask)(bias, mask, 2, 4, 16, 15)
    assert torch.equal(got, inlined_path(bias, mask[:, None, None], 15))


def test_window_beyond_the_keys_keeps_the_allowed_keys(mode: Mode) -> None:
    mask = scores(2, 16) > 0
    got = mode(dmask.create_mask)(scores(2, 3, 4, 16), mask, 2, 4, 16, 99)
    assert torch.equal(got, mask[:, None, None].expand(2, 3, 4, 16))


def test_a_2d_mask_of_the_new_queries_allows_the_cache(mode: Mode) -> None:
    new = torch.tensor([[False, True]])
    got = mode(dmask.create_mask)(scores(1, 1, 2, 5), new, 1, 2, 5, 5)
    assert got[0, 0, 0].tolist() == [True, True, True, False, True]


def test_a_2d_mask_covers_all_keys_if_the_lengths_are_equal() -> None:
    mask = torch.tensor([[False, True, True]])
    got = dmask.create_mask(scores(1, 1, 3, 3), mask, 1, 3, 3, 3)
    assert got[0, 0, 0].tolist() == [False, True, True]


def test_heads_repeat_per_group(mode: Mode) -> None:
    bias, mask = scores(1, 2, 1, 8), scores(1, 6, 1, 8) > 0
    got = mode(dmask.create_mask)(bias, mask, 1, 1, 8, 3)
    for head in range(6):
        one = dmask.create_mask(bias[:, head // 3, None], mask[:, head, None], 1, 1, 8, 3)
        assert torch.equal(got[:, head, None], one)


def test_a_bias_of_one_key_is_expanded(mode: Mode) -> None:
    got = mode(dmask.create_mask)(scores(2, 1, 3, 1), None, 2, 3, 7, 2, tie_break="lowest")
    assert got.shape == (2, 1, 3, 7)
    assert got.sum(-1).eq(2).all()
    assert got[..., :2].all()


@pytest.mark.parametrize("shape", [(0, 2, 3, 8), (2, 2, 0, 8), (2, 2, 3, 0), (0, 1, 0, 0)])
def test_sizes_of_zero_give_an_empty_mask(mode: Mode, shape: tuple[int, ...]) -> None:
    got = mode(dmask.create_mask)(scores(*shape), None, shape[0], shape[2], shape[3], 4)
    assert got.shape == shape
    assert got.dtype is torch.bool


def test_forbidden_keys_stay_out_if_the_dtype_rounds_the_floor_up() -> None:
    """float32 cannot represent 0.1: forbidden keys get the nearest number, which is larger."""
    bias, mask = torch.full((1, 1, 1, 6), -5.0), torch.tensor([[True, False] * 3])
    for window in (2, 5, 6):
        assert not dmask.create_mask(bias, mask, 1, 1, 6, window, 0.1).any()


def test_results_are_contiguous_for_any_layout(mode: Mode) -> None:
    bias = scores(16, 5).T[None, None]
    got = mode(dmask.create_mask)(bias, None, 1, 5, 16, 4)
    assert got.is_contiguous()
    assert torch.equal(got, inlined_path(bias.contiguous(), None, 4))


def test_smoothing_lets_no_forbidden_key_through(mode: Mode) -> None:
    causal = torch.ones(8, 8, dtype=torch.bool).tril()[None, None]
    got = mode(dmask.create_mask)(scores(1, 1, 8, 8), causal, 1, 8, 8, 7, None, 4)
    assert not (got & ~causal).any()
    assert torch.equal(got[0, 0, 7], torch.ones(8, dtype=torch.bool))


def test_create_mask_op_needs_nothing_but_torch_ops() -> None:
    """Integrations that only use `torch.ops` rely on the defaults of the schema."""
    bias, mask = scores(2, 4, 3, 16), allowed(2, 16)
    got = torch.ops.dmask.create_mask(bias, mask, 2, 3, 16, 5, type="topk", tie_break="lowest")
    expected = dmask.create_mask(bias, mask, 2, 3, 16, 5, tie_break="lowest")
    assert torch.equal(got, expected)


# ------------------------------------------------------------------ transforms


def make(bias: Tensor, mask: Tensor | None) -> Tensor:
    return dmask.create_mask(bias, mask, 2, 3, 16, 5, tie_break="lowest")


@pytest.mark.parametrize("bias_shape", [(2, 4, 3, 16), (1, 4, 3, 16), (2, 2, 1, 16), (1, 1, 1, 1)])
@pytest.mark.parametrize("mask_shape", [(2, 1, 3, 16), (1, 4, 1, 16), (2, 16), (2, 3), (1, 16)])
def test_vmap(bias_shape: tuple[int, ...], mask_shape: tuple[int, ...]) -> None:
    biases, masks = scores(5, *bias_shape), allowed(5, *mask_shape)
    assert torch.equal(vmap(make)(biases, masks), loop(make, biases, masks))
    for dim in range(biases.dim()):
        moved = biases.movedim(0, dim)
        got = vmap(make, in_dims=(dim, -1))(moved, masks.movedim(0, -1))
        assert torch.equal(got, loop(make, biases, masks))
    one = vmap(make, in_dims=(0, None))(biases, masks[0])
    assert torch.equal(one, torch.stack([make(bias, masks[0]) for bias in biases]))
    one = vmap(make, in_dims=(None, 0))(biases[0], masks)
    assert torch.equal(one, torch.stack([make(biases[0], mask) for mask in masks]))
    nested = vmap(vmap(make, in_dims=(0, None)), in_dims=(None, 0))(biases, masks)
    assert torch.equal(
        nested, torch.stack([torch.stack([make(b, m) for b in biases]) for m in masks])
    )


def test_vmap_over_an_empty_dimension() -> None:
    got = vmap(make)(scores(0, 2, 4, 3, 16), allowed(0, 2, 16))
    assert got.shape == (0, 2, 4, 3, 16)


def kept_sum(bias: Tensor) -> Tensor:
    return (bias.square() * dmask.create_mask(bias, None, 2, 3, 16, 5)).sum()


def test_gradients_are_those_of_a_constant_mask() -> None:
    bias = scores(2, 4, 3, 16)
    mask = dmask.create_mask(bias, None, 2, 3, 16, 5)
    expected = 2 * bias * mask
    assert torch.equal(grad(kept_sum)(bias), expected)
    assert torch.equal(jacrev(kept_sum)(bias), expected)
    _, tangent = jvp(kept_sum, (bias,), (torch.ones_like(bias),))
    torch.testing.assert_close(tangent, expected.sum())
    leaf = bias.clone().requires_grad_()
    kept_sum(leaf).backward()
    assert torch.equal(leaf.grad, expected)
    stacked = scores(5, 2, 4, 3, 16)
    assert torch.equal(vmap(grad(kept_sum))(stacked), loop(grad(kept_sum), stacked))


def test_autocast_and_inference_mode_change_nothing() -> None:
    bias, mask = scores(2, 4, 3, 16), allowed(2, 16)
    expected = make(bias, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(make(bias, mask), expected)
    with torch.inference_mode():
        assert torch.equal(make(bias.clone(), mask), expected)


class Mask(torch.nn.Module):
    def forward(self, bias: Tensor, mask: Tensor) -> Tensor:
        batch, _, queries, keys = bias.shape
        return dmask.create_mask(bias, mask, batch, queries, keys, 5)


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_dynamic_lengths(strict: bool) -> None:
    auto = torch.export.Dim.DYNAMIC
    shapes: dict[str, Any] = {"bias": {0: auto, 2: auto, 3: auto}, "mask": {0: auto, 1: auto}}
    program = torch.export.export(
        Mask(), (scores(2, 4, 3, 16), allowed(2, 16)), dynamic_shapes=shapes, strict=strict
    )
    for batch, queries, keys in [(2, 3, 16), (3, 7, 33), (4, 2, 5)]:
        inputs = scores(batch, 4, queries, keys), allowed(batch, keys)
        assert torch.equal(program.module()(*inputs), Mask()(*inputs))
