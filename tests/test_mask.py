"""The mask helpers: what they pass through, how they shape, what they never do."""

from __future__ import annotations

import inspect

import expecttest
import pytest
import torch

import dmask
from tests.conftest import Mode
from tests.oracle import inlined_path


def scores(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


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
    given = torch.ones(2, 16)  # not even a valid mask: it is nobody's business here
    for mask in (given, None, "anything"):
        integers = torch.zeros(2, 1, 1, 16, dtype=torch.int64)
        assert dmask.maybe_create_mask(integers, mask, 2, 1, 16, window_size) is mask


def test_maybe_creates_where_keys_exceed_the_window(mode: Mode) -> None:
    bias = scores(2, 3, 4, 16)
    mask = torch.ones(2, 16, dtype=torch.bool)
    got = mode(dmask.maybe_create_mask)(bias, mask, 2, 4, 16, 15)
    assert torch.equal(got, inlined_path(bias, mask[:, None, None], 15))


def test_window_beyond_the_keys_keeps_the_allowed_keys(mode: Mode) -> None:
    mask = scores(2, 16) > 0
    got = mode(dmask.create_mask)(scores(2, 3, 4, 16), mask, 2, 4, 16, 99)
    assert torch.equal(got, mask[:, None, None].expand(2, 3, 4, 16))


def test_mask_of_the_new_queries_leaves_the_cache_open(mode: Mode) -> None:
    new = torch.tensor([[False, True]])
    got = mode(dmask.create_mask)(scores(1, 1, 2, 5), new, 1, 2, 5, 5)
    assert got[0, 0, 0].tolist() == [True, True, True, False, True]


def test_mask_of_all_keys_wins_where_the_lengths_are_equal() -> None:
    mask = torch.tensor([[False, True, True]])
    got = dmask.create_mask(scores(1, 1, 3, 3), mask, 1, 3, 3, 3)
    assert got[0, 0, 0].tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int8])
def test_integer_masks_are_masks(dtype: torch.dtype) -> None:
    mask = scores(2, 16) > 0
    expected = dmask.create_mask(scores(2, 1, 1, 16), mask, 2, 1, 16, 4)
    got = dmask.create_mask(scores(2, 1, 1, 16), mask.to(dtype), 2, 1, 16, 4)
    assert torch.equal(got, expected)


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


def test_results_are_new_and_without_grad() -> None:
    bias = scores(1, 2, 3, 8).requires_grad_()
    mask = torch.ones(1, 2, 3, 8, dtype=torch.bool)
    results = [
        dmask.create_mask(bias, mask, 1, 3, 8, 99),
        dmask.topk_mask(bias, mask, 3),
        dmask.relu_mask(bias, mask),
        dmask.topk_indices(bias, mask, 3),
        dmask.block_smooth(mask, 1, mask),
        dmask.block_smooth(mask, 1),
    ]
    for result in results:
        assert not result.requires_grad
        assert result.is_contiguous()
        assert result.untyped_storage().data_ptr() not in (
            bias.untyped_storage().data_ptr(),
            mask.untyped_storage().data_ptr(),
        )
    assert mask.all()


def test_a_floor_that_no_score_equals_still_bars_forbidden_keys() -> None:
    """0.1 is no float32: the forbidden keys are filled with the nearest one, which is above it."""
    bias, mask = torch.full((1, 1, 1, 6), -5.0), torch.tensor([[True, False] * 3])
    for window in (2, 5, 6):
        assert not dmask.create_mask(bias, mask, 1, 1, 6, window, 0.1).any()


def test_results_are_contiguous_whatever_the_layout(mode: Mode) -> None:
    bias = scores(16, 5).T[None, None]
    got = mode(dmask.create_mask)(bias, None, 1, 5, 16, 4)
    assert got.is_contiguous()
    assert torch.equal(got, inlined_path(bias.contiguous(), None, 4))


def test_minus_infinity_is_never_kept_and_nan_always() -> None:
    bias = torch.tensor([[[[-float("inf"), 1.0, float("nan"), -float("inf")]]]])
    for tie_break in ("torch", "lowest"):
        for window in (3, 4, 9):
            got = dmask.topk_mask(bias, None, window, tie_break=tie_break)
            assert got.flatten().tolist() == [False, True, True, False]
        assert dmask.topk_mask(bias, None, 1).flatten().tolist() == [False, False, True, False]
    assert dmask.relu_mask(bias, None).flatten().tolist() == [False, True, True, False]


def test_smoothing_lets_no_forbidden_key_through(mode: Mode) -> None:
    causal = torch.ones(8, 8, dtype=torch.bool).tril()[None, None]
    got = mode(dmask.create_mask)(scores(1, 1, 8, 8), causal, 1, 8, 8, 7, None, 4)
    assert not (got & ~causal).any()
    assert torch.equal(got[0, 0, 7], torch.ones(8, dtype=torch.bool))


def test_smoothing_counts_a_short_last_block_by_its_own_keys() -> None:
    kept = torch.tensor([[[[True, False, False, True, True, False, True]]]])
    smooth = dmask.block_smooth(kept, 3)
    assert smooth.flatten().tolist() == [False] * 3 + [True] * 3 + [True]


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
