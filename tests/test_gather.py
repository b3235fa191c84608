"""`sparse_attention` against a plain loop over rows, and the backend `"gather"`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import dmask
from dmask import gather
from tests.conftest import Mode
from tests.support.scores import scores

HEADS, KEY_HEADS, QUERIES, KEYS = 4, 2, 3, 9


def inputs(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Returns query, key and value."""
    shapes = (2, HEADS, QUERIES, 8), (2, KEY_HEADS, KEYS, 8), (2, KEY_HEADS, KEYS, 6)
    return [scores(*shape).to(dtype).requires_grad_() for shape in shapes]


def some_indices(*shape: int) -> Tensor:
    """Returns different keys in each row, of which a third is unused."""
    count = torch.Size(shape[:3]).numel()
    rows = [torch.randperm(KEYS, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    indices = torch.stack(rows)[:, : shape[3]].view(shape)
    return indices.masked_fill(indices % 3 == 0, -1)


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    indices: Tensor,
    bias: Tensor | None,
    scale: float | None,
) -> Tensor:
    """Computes each row separately, in float64."""
    named = indices.expand(2, -1, QUERIES, -1)
    rows = []
    for b in range(2):
        for h in range(HEADS):
            for q in range(QUERIES):
                row = named[b, h // (HEADS // named.shape[1]), q]
                kept = row[row >= 0].long()
                here = b, h // (HEADS // KEY_HEADS)
                keys, values = key[here][kept].double(), value[here][kept].double()
                logits = keys @ query[b, h, q].double() * (8**-0.5 if scale is None else scale)
                if bias is not None:
                    at = bias.expand(2, -1, QUERIES, KEYS)
                    logits = logits + at[b, h // (HEADS // at.shape[1]), q, kept].double()
                rows.append(logits.softmax(0) @ values if len(kept) else values.sum(0))
    return torch.stack(rows).view(2, HEADS, QUERIES, 6)


@pytest.mark.parametrize("key_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("own", [1, 2, 3, 6])
def test_any_number_of_heads_that_divides(key_heads: int, own: int) -> None:
    query, cache = scores(2, 6, QUERIES, 8), scores(2, key_heads, KEYS, 8)
    indices = some_indices(2, own, QUERIES, 4)
    mask = dmask.mask_from_indices(indices, KEYS).repeat_interleave(6 // own, dim=1)
    empty = ~mask.any(dim=-1, keepdim=True)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, cache, cache, attn_mask=mask | empty, enable_gqa=True
    )
    found = dmask.sparse_attention(query, cache, cache, indices)
    torch.testing.assert_close(found, wanted.masked_fill(empty, 0.0))


INDICES = [(2, HEADS, QUERIES, 4), (2, KEY_HEADS, QUERIES, 4), (2, 1, QUERIES, 5), (1, 1, 1, 9)]
BIASES: list[tuple[int, ...] | None] = [
    None,
    (2, HEADS, QUERIES, KEYS),
    (2, KEY_HEADS, 1, KEYS),
    (1, 1, QUERIES, 1),
]


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("bias_shape", BIASES)
@pytest.mark.parametrize("shape", INDICES)
def test_outputs_and_gradients(
    mode: Mode, shape: tuple[int, ...], bias_shape: tuple[int, ...] | None, scale: float | None
) -> None:
    tensors, indices = inputs(), some_indices(*shape)
    bias = None if bias_shape is None else scores(*bias_shape).requires_grad_()
    attend = mode(dmask.sparse_attention)
    output = attend(*tensors, indices.int(), attention_bias=bias, scale=scale)
    expected = written_out(*tensors, indices, bias, scale)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    weights = scores(*output.shape)
    given = tensors if bias is None else [*tensors, bias]
    got = torch.autograd.grad((output * weights).sum(), given)
    want = torch.autograd.grad((expected * weights).sum(), given)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_without_keys_gives_zeros_and_finite_gradients(
    mode: Mode, dtype: torch.dtype
) -> None:
    tensors = inputs(dtype)
    indices = some_indices(2, 1, QUERIES, 4)
    indices[0] = -1
    output = mode(dmask.sparse_attention)(*tensors, indices)
    assert output[0].eq(0).all()
    assert output[1].ne(0).all()
    for gradient in torch.autograd.grad(output.float().sum(), tensors):
        assert gradient.isfinite().all()
        assert gradient[0].eq(0).all()


def test_what_is_not_named_is_not_read(mode: Mode) -> None:
    query, key, value = (tensor.detach() for tensor in inputs())
    indices = torch.tensor([[[[2, 5, -1]]]])
    wanted = mode(dmask.sparse_attention)(query, key, value, indices)
    others = torch.ones(KEYS, dtype=torch.bool)
    others[[2, 5]] = False
    key[:, :, others], value[:, :, others] = torch.nan, torch.inf
    assert torch.equal(mode(dmask.sparse_attention)(query, key, value, indices), wanted)


@pytest.mark.parametrize("entries", [1, 500])
def test_parts_of_the_queries_give_the_same(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, indices = inputs(), some_indices(2, KEY_HEADS, QUERIES, 4)
    bias = scores(2, 1, QUERIES, KEYS)
    whole = dmask.sparse_attention(*tensors, indices, attention_bias=bias)
    monkeypatch.setattr(gather, "GATHERED_ENTRIES", entries)
    parts = dmask.sparse_attention(*tensors, indices, attention_bias=bias)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("layout", ["transposed", "sliced"])
def test_layouts_of_a_cache(mode: Mode, layout: str) -> None:
    query, key, value = inputs()
    indices = some_indices(2, KEY_HEADS, QUERIES, 4)
    wanted = dmask.sparse_attention(query, key, value, indices)
    if layout == "transposed":  # [B, Lk, KVH, D], as FlashAttention has it
        key, value = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in (key, value))
    else:  # the filled part of a static cache
        key, value = (torch.cat([each, each], dim=2)[:, :, :KEYS] for each in (key, value))
    assert not key.is_contiguous()
    torch.testing.assert_close(mode(dmask.sparse_attention)(query, key, value, indices), wanted)


@pytest.mark.parametrize("sizes", [(0, 9, 4), (3, 0, 4), (3, 9, 0)])
def test_sizes_of_zero(mode: Mode, sizes: tuple[int, int, int]) -> None:
    queries, keys, width = sizes
    indices = torch.full((2, 1, queries, width), -1)
    query, cache = torch.ones(2, 4, queries, 8), torch.ones(2, 2, keys, 8)
    output = mode(dmask.sparse_attention)(query, cache, cache, indices)
    assert output.shape == (2, 4, queries, 8)
    assert output.eq(0).all()


def test_an_index_past_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        dmask.sparse_attention(*inputs(), torch.tensor([[[[KEYS]]]]))


PADDING = torch.tensor([[0] * 7 + [1, 1], [1] * 8 + [0]])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, PADDING], ids=["no mask", "padding"])
@pytest.mark.parametrize("window", [1, 3, 99])
def test_the_backend_equals_the_others(
    mode: Mode, window: int, causal: bool, mask: Tensor | None
) -> None:
    tensors = [*inputs(), scores(2, KEY_HEADS, 1, KEYS).requires_grad_()]
    options: dict[str, Any] = {"window_size": window, "is_causal": causal}
    attend = mode(dmask.dynamic_mask_attention)
    outputs = [attend(*tensors, mask, backend=name, **options) for name in ("gather", "eager")]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    weights = scores(*outputs[0].shape)
    got, want = (torch.autograd.grad((each * weights).sum(), tensors) for each in outputs)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_growing_keys_need_no_new_graph() -> None:
    counter = CompileCounter()

    def decode(query: Tensor, cache: Tensor, bias: Tensor) -> Tensor:
        return dmask.dynamic_mask_attention(
            query, cache, cache, bias, window_size=16, backend="gather"
        )

    compiled = torch.compile(decode, fullgraph=True, backend=counter, dynamic=True)
    for keys in (9, 16, 17, 24, 40):
        arguments = scores(1, 4, 1, 8), scores(1, 2, keys, 8), scores(1, 2, 1, keys)
        torch.testing.assert_close(compiled(*arguments), decode(*arguments))
    assert counter.frame_count == 1
