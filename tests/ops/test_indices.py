"""The ops `topk_indices` and `mask_from_indices`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

import dmask
from tests.conftest import Mode
from tests.support.generate import Call, calls


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
