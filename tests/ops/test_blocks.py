"""Selections as blocks: `kept_blocks`, `block_lists`, and FlexAttention with a `BlockMask`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import dmask
from tests.support.generate import Select, selects
from tests.support.oracle import (
    expected_selection,
)
from tests.support.scores import scores


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(selects())
def test_blocks_are_empty_partial_or_full(call: Select) -> None:
    selected = dmask.select(call.bias, call.window_size, **call.options)
    full = expected_selection(call)
    if 0 in full.shape:
        return  # FlexAttention has no empty BlockMask
    rows, columns = 2, 3
    blocks = selected.to_block_mask((rows, columns))
    block_map = selected.to_block_map((rows, columns))
    assert (block_map.dtype, block_map.shape[:2]) == (torch.bool, full.shape[:2])
    assert blocks.seq_lengths == (call.query_len, call.shape[3])
    partial = _listed(blocks.kv_num_blocks, blocks.kv_indices)
    whole = _listed(blocks.full_kv_num_blocks, blocks.full_kv_indices)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in whole.shape)).tolist():
        b, h, i, j = place
        block = full[b, h, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        assert block_map[tuple(place)] == block.any()
        is_whole = bool(block.all()) and block.numel() == rows * columns
        assert whole[tuple(place)] == is_whole
        assert partial[tuple(place)] == (bool(block.any()) and not is_whole)


@pytest.mark.parametrize("block_size", [(3, 2), (16, 16), (1, 99)])
def test_a_block_mask_equals_that_of_flex_attention(block_size: tuple[int, int]) -> None:
    """Also in the order of the indices, and in the lists for the backward pass."""
    bias, lengths = scores(2, 4, 1, 50).mul(3).round(), torch.tensor([50, 7])
    selected = dmask.select(bias, 20, is_causal=True, query_len=33, key_lengths=lengths)
    found = selected.to_block_mask(block_size)
    wanted = create_block_mask(selected.mask_mod(), 2, 4, 33, 50, "cpu", block_size)
    assert found.BLOCK_SIZE == wanted.BLOCK_SIZE
    for name in (*_LISTS, *[f"full_{name}" for name in _LISTS]):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name


_LISTS = ("kv_num_blocks", "kv_indices", "q_num_blocks", "q_indices")


@pytest.mark.parametrize("whole", [1, 3, 2**31])
def test_lists_equal_those_of_flex_attention(whole: int) -> None:
    counts = scores(2, 3, 5, 9).mul(3).int().clamp(min=0)
    found = torch.ops.dmask.block_lists(counts, whole)
    assert [each.dtype for each in found] == [torch.int32] * 8
    wanted = BlockMask.from_kv_blocks(*found[:4], BLOCK_SIZE=1)
    assert all(map(torch.equal, found[4:], (getattr(wanted, name) for name in _COLUMNS)))
    listed = _listed(*found[2:4]) if whole < 4 else torch.zeros_like(counts, dtype=torch.bool)
    assert torch.equal(listed, counts == whole)
    assert torch.equal(_listed(*found[:2]), (counts > 0) & (counts != whole))


_COLUMNS = ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")


def _listed(counts: Tensor, indices: Tensor) -> Tensor:
    listed = torch.zeros(indices.shape, dtype=torch.bool)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in counts.shape)).tolist():
        for j in indices[tuple(place)][: counts[tuple(place)]].tolist():
            assert not listed[(*place, j)]
            listed[(*place, j)] = True
    return listed


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_flex_attention_over_a_block_mask_equals_sdpa_over_the_dense_mask(key_heads: int) -> None:
    query, key, value = scores(2, 4, 70, 16), scores(2, 4, 90, 16), scores(2, 4, 90, 16).sin()
    bias, lengths = scores(2, key_heads, 1, 90).mul(3).round(), torch.tensor([90, 33])

    def select(bias: Tensor, lengths: Tensor) -> dmask.Selection:
        return dmask.select(
            bias, 20, is_causal=True, query_len=70, key_lengths=lengths, sinks=2, local=3
        )

    def fn(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
        blocks = select(bias, lengths).to_block_mask(32, num_heads=4)
        return flex_attention(query, key, value, block_mask=blocks)

    got = torch.compile(fn, fullgraph=True)(query, key, value, bias, lengths)
    mask = select(bias, lengths).to_mask().repeat_interleave(4 // key_heads, dim=1)
    wanted = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
