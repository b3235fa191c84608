"""The ops `topk_indices` and `mask_from_indices`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

import dmask
from tests.conftest import Mode
from tests.support.generate import Call, calls
from tests.support.scores import scores


@pytest.mark.usefixtures("way")
@settings(max_examples=300)
@given(calls())
def test_indices_are_the_mask_with_lowest_ties(call: Call) -> None:
    bias, mask = call.full()
    kept = dmask.topk_mask(bias, mask, call.window_size, call.min_dtype, tie_break="lowest")
    indices = dmask.topk_indices(bias, mask, call.window_size, call.min_dtype)
    assert indices.dtype is torch.int32
    assert indices.shape == (*kept.shape[:3], call.window_size)
    for row, chosen in zip(kept.flatten(0, 2), indices.flatten(0, 2), strict=True):
        expected = row.nonzero().flatten().tolist()
        assert chosen.tolist() == expected + [-1] * (call.window_size - len(expected))


def test_indices_of_blocks_and_masks_to_compose_with(mode: Mode) -> None:
    indices = torch.tensor([[[[2, -1, 0]]]])
    make = mode(dmask.mask_from_indices)
    assert (
        make(indices, 8, block_size=3).flatten().tolist() == [True] * 3 + [False] * 3 + [True] * 2
    )
    given = torch.tensor([[[[1, 0, 1, 1, 0]]]])
    named = make(indices, 5, attention_mask=given)
    assert named.flatten().tolist() == [True, False, True, False, False]
    additive = torch.tensor([[[[0.5, 0.25, -1.0, 0.0, 0.0]]]], dtype=torch.float16)
    lowest = torch.finfo(torch.float16).min
    carried = make(indices, 5, attention_mask=additive)
    assert carried.flatten().tolist() == [0.5, lowest, -1.0, lowest, lowest]
    assert carried.dtype is torch.float16
    per_head = make(indices.expand(2, 2, 3, 3), 5, attention_mask=torch.ones(1, 4, 1, 5).bool())
    assert per_head.shape == (2, 4, 3, 5)


def test_an_additive_mask_keeps_its_gradient() -> None:
    additive = torch.zeros(1, 1, 1, 4).requires_grad_()
    indices = torch.tensor([[[[2, -1, 0]]]])
    dmask.mask_from_indices(indices, 4, attention_mask=additive).sum().backward()
    assert additive.grad.flatten().tolist() == [1, 0, 1, 0]


def test_what_lies_past_the_end_may_be_ignored(mode: Mode) -> None:
    indices = torch.tensor([[[[2, 9, -4, 3, 0]]]])
    make = mode(dmask.mask_from_indices)
    kept = make(indices, 3, out_of_range="ignore")
    assert kept.flatten().tolist() == [True, False, True]
    blocks = make(indices, 5, block_size=2, out_of_range="ignore")
    assert blocks.flatten().tolist() == [True, True, False, False, True]
    with pytest.raises(ValueError, match="indices must be below 3"):
        dmask.mask_from_indices(indices, 3)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_fill_makes_an_additive_mask(dtype: torch.dtype | None, mode: Mode) -> None:
    """What models write as `full(-inf).scatter(-1, indices, 0)`, and the sum with a causal mask."""
    indices = torch.tensor([[[[2, 0], [1, -1]]]])
    make = mode(dmask.mask_from_indices)
    found = make(indices, 3, fill=-torch.inf, dtype=dtype)
    wanted = [[[[0.0, -torch.inf, 0.0], [-torch.inf, 0.0, -torch.inf]]]]
    assert found.tolist() == wanted
    assert found.dtype is (dtype or torch.float32)
    causal = torch.tensor([[[[0.5, -torch.inf, -torch.inf], [0.25, 0.0, -torch.inf]]]])
    found = make(indices, 3, fill=-torch.inf, attention_mask=causal, dtype=dtype)
    assert found.tolist() == (causal + torch.tensor(wanted)).tolist()
    allowed = torch.tensor([[[[1, 1, 0]]]])
    found = make(indices, 3, fill=-9.0, attention_mask=allowed, dtype=dtype)
    assert found.tolist() == [[[[0.0, -9.0, -9.0], [-9.0, 0.0, -9.0]]]]


def test_tensors_without_heads_are_those_of_one_head(mode: Mode) -> None:
    """Hugging Face's sparse models, for example, choose once for all heads."""
    bias = scores(2, 5, 24)
    for mask in (None, scores(1, 5, 24) > 0):
        headed = None if mask is None else mask[:, None]
        wanted = dmask.topk_indices(bias[:, None], headed, 7)[:, 0]
        found = mode(dmask.topk_indices)(bias, mask, 7)
        assert found.shape == (2, 5, 7)
        assert torch.equal(found, wanted)
        dense = mode(dmask.mask_from_indices)(found, 24, attention_mask=mask)
        assert torch.equal(
            dense, dmask.topk_mask(bias[:, None], headed, 7, tie_break="lowest")[:, 0]
        )
