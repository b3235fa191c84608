"""Inductor replaces small masks with plain operations and leaves larger ones as ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.utils import run_and_get_code
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

import dmask
from dmask.contracts.dispatch import FEW_SCORES
from tests.support.scores import scores


def create(bias: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    batch, _, queries, keys = bias.shape
    return dmask.create_mask(bias, mask, batch, queries, keys, 7, **kwargs)


def code_of(fn: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, bool]:
    """Returns the result of a compiled call, and True if its code calls an op of dmask."""
    result, codes = run_and_get_code(torch.compile(fn, fullgraph=True, **options), *args)
    return result, any("torch.ops.dmask" in code for code in codes)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["normal", "tied", "special"])
def test_a_small_mask_is_a_few_operations(dynamic: bool, kind: str) -> None:
    bias = scores(2, 4, 3, 33)
    bias = bias.round() if kind == "tied" else bias
    if kind == "special":
        bias[..., ::5], bias[..., ::7], bias[..., ::11] = -torch.inf, torch.nan, -0.0
    for mask in (None, scores(2, 33) > -0.5, (scores(1, 4, 3, 33) > 1).long()):
        got, calls_op = code_of(create, bias, mask, dynamic=dynamic)
        assert not calls_op
        assert torch.equal(got, create(bias, mask))


def test_a_small_topk_mask_is_a_few_operations() -> None:
    got, calls_op = code_of(lambda bias: dmask.topk_mask(bias, None, 7, -0.5), scores(2, 4, 3, 33))
    assert not calls_op
    assert torch.equal(got, dmask.topk_mask(scores(2, 4, 3, 33), None, 7, -0.5))


OTHERS: dict[str, Callable[[], tuple[Callable[..., Any], Tensor]]] = {
    "large": lambda: (create, scores(2, 4, 32, 64)),
    "lowest": lambda: (lambda b: create(b, tie_break="lowest"), scores(2, 4, 3, 33)),
    "smoothed": lambda: (lambda b: create(b, block_size=4), scores(2, 4, 3, 33)),
    "relu": lambda: (lambda b: create(b, type="relu"), scores(2, 4, 3, 33)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_masks_stay_ops(case: str) -> None:
    fn, bias = OTHERS[case]()
    got, calls_op = code_of(fn, bias)
    assert calls_op
    assert torch.equal(got, fn(bias))


def test_a_size_is_a_hint_and_not_a_guard() -> None:
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(create, fullgraph=True, dynamic=True, backend=counter)
    for keys in (30, 300, 9000):
        bias = scores(1, 2, 1, keys).mul(3).round()
        assert torch.equal(compiled(bias), create(bias))
    assert counter.frame_count == 1


def test_a_mask_stays_an_op_next_to_flex_attention() -> None:
    """On the CPU, flex_attention miscompiles captured tensors that a scatter produced."""
    query, key, bias = scores(2, 2, 16, 16), scores(2, 2, 64, 16), scores(2, 2, 16, 64)
    assert bias.numel() <= FEW_SCORES  # small enough to be replaced anywhere else
    value = key.sin()  # torch 2.9 rejects equal buffers

    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        kept = create(bias)

        def score_mod(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return torch.where(kept[b, h, q, k], score, -torch.inf)

        return flex_attention(query, key, value, score_mod=score_mod)

    got, calls_op = code_of(attend, query, key, value, bias)
    assert calls_op
    wanted = scaled_dot_product_attention(query, key, value, attn_mask=create(bias))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
