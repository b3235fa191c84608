"""Packed sequences and paged caches."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

import dmask
from dmask.kernels.cpu import select as cpu
from tests.conftest import Mode
from tests.support.scores import scores

LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=5)


def cumulative(lengths: list[int], dtype: torch.dtype) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(dtype)


@settings(max_examples=200)
@given(LENGTHS, st.booleans(), st.integers(0, 3), st.sampled_from([torch.int32, torch.int64]))
def test_ranges_of_packed_sequences(
    lengths: list[tuple[int, int]], is_causal: bool, padding: int, dtype: torch.dtype
) -> None:
    queries, keys = (cumulative([pair[i] for pair in lengths], dtype) for i in (0, 1))
    total = int(queries[-1]) + padding
    start, end = dmask.packed_ranges(queries, keys, total, is_causal=is_causal)
    assert start.shape == end.shape == (1, total)
    assert start.dtype is end.dtype is dtype
    seen: list[set[int]] = []
    for number, (query_len, key_len) in enumerate(lengths):
        first = int(keys[number])
        for query in range(query_len):
            last = query + key_len - query_len if is_causal else key_len - 1
            seen.append(set(range(first, first + last + 1)))
    seen += [set()] * padding
    found = [set(range(a, b)) for a, b in zip(start[0].tolist(), end[0].tolist(), strict=True)]
    assert found == seen


def packed(lengths: list[tuple[int, int]], dtype: torch.dtype, **options: Any) -> dmask.Selection:
    """Selects in packed sequences, whose scores depend on their lengths."""
    queries, keys = (cumulative([pair[i] for pair in lengths], torch.int32) for i in (0, 1))
    bias = torch.full((1, 2, int(queries[-1]), int(keys[-1])), torch.nan, dtype=dtype)
    for (q, q_end), (k, k_end) in zip(
        pairwise(queries.tolist()), pairwise(keys.tolist()), strict=True
    ):
        bias[:, :, q:q_end, k:k_end] = alone(q_end - q, k_end - k, dtype)
    is_causal = options.pop("is_causal")
    ranges = dmask.packed_ranges(queries, keys, bias.shape[2], is_causal=is_causal)
    return dmask.select(bias, 5, key_ranges=ranges, **options)


def alone(query_len: int, key_len: int, dtype: torch.dtype) -> Tensor:
    return scores(1, 2, query_len, key_len).mul(2).round().to(dtype)


# Without causality, a row of a range is at its last key, and that of a sequence at its position.
OPTIONS = [
    {"is_causal": is_causal, "sinks": sinks, "local": local}
    for is_causal, local in ((False, 0), (True, 0), (True, 2))
    for sinks in (0, 1)
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_packed_batch_gives_what_each_sequence_gives_alone(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """In any order. The scores between sequences are NaN."""
    some = [(3, 3), (4, 12), (0, 2), (5, 0), (1, 9), (9, 4)]
    for order in (some, some[::-1], some[2:] + some[:2]):
        selected = packed(order, dtype, **options)
        q = k = 0
        for query_len, key_len in order:
            wanted = dmask.select(alone(query_len, key_len, dtype), 5, **options)
            rows = slice(q, q + query_len)
            assert torch.equal(
                selected.threshold[:, :, rows], wanted.threshold.expand(1, 2, query_len)
            )
            cutoff = wanted.cutoff.expand(1, 2, query_len)
            cutoff = torch.where(cutoff < 0, cutoff, cutoff + k)
            assert torch.equal(selected.cutoff[:, :, rows], cutoff)
            q, k = q + query_len, k + key_len


@pytest.mark.parametrize("many", [1, 10**9])
def test_prefixes_of_packed_sequences(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU follows growing prefixes with a heap, and starts again with each sequence."""
    monkeypatch.setattr(cpu, "MANY_QUERIES", many)
    lengths = torch.tensor([0, 50, 53, 120])
    bias = scores(1, 2, 1, 120).mul(2).round()
    ranges = dmask.packed_ranges(lengths, lengths, 120, is_causal=True)
    for always in ({}, {"sinks": 2}, {"sinks": 1, "local": 4}):
        selected = dmask.select(bias, 9, key_ranges=ranges, **always)
        for first, end in pairwise(lengths.tolist()):
            wanted = dmask.select(
                bias[..., first:end], 9, is_causal=True, query_len=end - first, **always
            )
            assert torch.equal(selected.threshold[:, :, first:end], wanted.threshold)
            assert torch.equal(selected.to_mask()[:, :, first:end, first:end], wanted.to_mask())


def test_what_lies_outside_a_range_changes_no_bit(mode: Mode) -> None:
    start, end = torch.tensor([[4, 9, 0, 20]]), torch.tensor([[17, 9, 40, 24]])
    bias = scores(1, 2, 4, 24)
    key = torch.arange(24)
    outside = (key < start[0, :, None]) | (key >= end[0, :, None])
    select = mode(lambda bias: dmask.select(bias, 5, key_ranges=(start, end), sinks=1, local=2))
    wanted = select(bias)
    for garbage in (torch.nan, torch.inf, -torch.inf, 1e30):
        found = select(bias.masked_fill(outside, garbage))
        assert torch.equal(found.threshold, wanted.threshold)
        assert torch.equal(found.cutoff, wanted.cutoff)
        assert torch.equal(found.to_mask(), wanted.to_mask())
        assert torch.equal(found.to_indices(), wanted.to_indices())


def test_flex_attention_over_packed_sequences() -> None:
    lengths = torch.tensor([0, 100, 256])
    query, key, value = scores(3, 1, 2, 256, 32).unbind()
    starts, ends = dmask.packed_ranges(lengths, lengths, 256, is_causal=True)

    def choose(bias: Tensor, starts: Tensor, ends: Tensor) -> dmask.Selection:
        return dmask.select(bias, 64, key_ranges=(starts, ends), sinks=2, local=8)

    @torch.compile(fullgraph=True)
    def attend(bias: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        blocks = choose(bias, starts, ends).to_block_mask()
        return flex_attention(query, key, value, block_mask=blocks)

    bias = scores(1, 2, 1, 256)
    mask = choose(bias, starts, ends).to_mask()
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(attend(bias, starts, ends), wanted)


def test_indices_relative_to_a_range(mode: Mode) -> None:
    """As the rows `ks`, `ke` of vLLM's and SGLang's indexers."""
    ranges = torch.tensor([[3, -2, 5]]), torch.tensor([[9, 4, 5]])
    bias = torch.arange(10.0).expand(1, 1, 3, 10)

    def fn(bias: Tensor, **options: Any) -> Tensor:
        return dmask.select(bias, 3, key_ranges=ranges).to_indices(**options)

    rows = mode(fn)(bias, relative=True)[0, 0].tolist()
    assert rows == [[3, 4, 5], [1, 2, 3], [-1, -1, -1]]
    rows = mode(fn)(bias, relative=True, fill=99, multiple_of=4)[0, 0].tolist()
    assert rows == [[3, 4, 5, 99], [1, 2, 3, 99], [99, 99, 99, 99]]
    whole = dmask.select(bias, 3)
    assert torch.equal(whole.to_indices(relative=True), whole.to_indices())


def test_pages(mode: Mode) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randperm(40, generator=generator).view(4, 10).int()
    indices = torch.randint(-1, 40, (4, 2, 3, 5), generator=generator).int()
    for pages in (table, table[:1]):
        found = mode(dmask.page_indices)(indices, pages, 4)
        assert found.dtype is torch.int32
        for place in torch.cartesian_prod(*map(torch.arange, indices.shape)).tolist():
            key = int(indices[tuple(place)])
            page = int(pages[place[0] % len(pages), key // 4])
            assert int(found[tuple(place)]) == (-1 if key < 0 else page * 4 + key % 4)
    with pytest.raises(IndexError):
        dmask.page_indices(torch.tensor([[40]]), table[:1], 4)
