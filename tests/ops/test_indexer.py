"""`indexer_topk`: DeepSeek's lightning indexer against plain loops, and with parts of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import dmask
from dmask.kernels.reference import indexer
from tests.conftest import Mode
from tests.support.scores import scores

BATCH, QUERIES, KEYS, HEADS, SIZE = 2, 7, 30, 3, 8


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Returns queries, keys and weights of small integers: sums are exact, and many scores tie."""
    return (
        scores(BATCH, QUERIES, HEADS, SIZE).mul(2).round().to(dtype),
        scores(BATCH, KEYS, SIZE).round().to(dtype),
        scores(BATCH, QUERIES, HEADS).round(),
    )


def scored(query: Tensor, key: Tensor, weights: Tensor, relu: bool) -> Tensor:
    """Returns the scores `[B, 1, Lq, Lk]`, number by number."""
    out = torch.zeros(BATCH, 1, QUERIES, KEYS)
    for b, q, k in torch.cartesian_prod(*map(torch.arange, (BATCH, QUERIES, KEYS))).tolist():
        total = 0.0
        for head in range(HEADS):
            product = sum(
                x * y for x, y in zip(query[b, q, head].tolist(), key[b, k].tolist(), strict=True)
            )
            total += float(weights[b, q, head]) * (max(product, 0.0) if relu else product)
        out[b, 0, q, k] = total
    return out


RESTRICTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "causal": {"is_causal": True},
    "causal, sinks, local": {"is_causal": True, "sinks": 1, "local": 2},
    "lengths": {"key_lengths": torch.tensor([30, 4]), "is_causal": True},
    "mask": {"attention_mask": scores(BATCH, 1, QUERIES, KEYS) > 0},
    "2-D mask, floor": {"attention_mask": scores(BATCH, KEYS) > 0, "min_dtype": 1.0},
    "ranges": {
        "key_ranges": (
            torch.tensor([[0, 0, 3, 9, 9, 28, -5]]),
            torch.tensor([[30, 1, 9, 3, 40, 29, 6]]),
        ),
        "local": 2,
    },
}


@pytest.mark.parametrize("name", RESTRICTIONS)
@pytest.mark.parametrize("activation", ["relu", "none"])
def test_the_indices_are_those_of_the_scores(mode: Mode, activation: str, name: str) -> None:
    restrictions = RESTRICTIONS[name]
    tensors = inputs()
    bias = scored(*tensors, activation == "relu")
    wanted = dmask.select(bias, 5, **restrictions).to_indices()[:, 0]
    options = {"scale": 1.0, "activation": activation, **restrictions}
    found = mode(dmask.indexer_topk)(*tensors, 5, **options)
    assert found.dtype is torch.int32
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", RESTRICTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("count", "heads", "keys"), [(1, 1, 1), (70, 50, 7), (130, 10**9, 64)])
def test_parts_of_any_size_give_the_same(
    name: str,
    dtype: torch.dtype,
    count: int,
    heads: int,
    keys: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors, restrictions = inputs(dtype), RESTRICTIONS[name]
    wanted = dmask.indexer_topk(*inputs(), 5, **restrictions)
    monkeypatch.setattr(indexer, "SCORES", count)
    monkeypatch.setattr(indexer, "HEAD_SCORES", heads)
    monkeypatch.setattr(indexer, "KEYS", keys)
    assert torch.equal(dmask.indexer_topk(*tensors, 5, **restrictions), wanted)


def test_only_some_scores_exist_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    score = indexer.index_scores

    def counted(query: Tensor, *others: Any) -> Tensor:
        made = score(query, *others)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(indexer, "index_scores", counted)
    monkeypatch.setattr("dmask.contracts.indexer._index_scores._loaded", {"reference": counted})
    monkeypatch.setattr(indexer, "SCORES", 150)
    dmask.contracts.spec.forget_plans()
    dmask.indexer_topk(*inputs(), 5)
    dmask.contracts.spec.forget_plans()
    assert sum(sizes) == BATCH * QUERIES * KEYS
    assert max(sizes) <= 150


def test_nan_surfaces(mode: Mode) -> None:
    query, key, weights = inputs()
    key[:, 3] = torch.nan
    found = mode(dmask.indexer_topk)(query, key, weights.abs() + 1, 2)
    assert (found == 3).any(dim=-1).all()


def test_the_scale_changes_no_choice_but_that_of_a_floor(mode: Mode) -> None:
    tensors = inputs()
    wanted = dmask.indexer_topk(*tensors, 5)
    for scale in (1.0, 0.3, 4.0):
        assert torch.equal(mode(dmask.indexer_topk)(*tensors, 5, scale=scale), wanted)
    low = dmask.indexer_topk(*tensors, KEYS, scale=1.0, min_dtype=2.0)
    high = mode(dmask.indexer_topk)(*tensors, KEYS, scale=2.0, min_dtype=4.0)
    assert torch.equal(high, low)
    assert not torch.equal(dmask.indexer_topk(*tensors, KEYS, scale=2.0, min_dtype=2.0), low)


def test_growing_keys_need_no_new_graph() -> None:
    counter = CompileCounter()
    compiled = torch.compile(
        lambda *tensors: dmask.indexer_topk(*tensors, 5, is_causal=True),
        fullgraph=True,
        backend=counter,
        dynamic=True,
    )
    for keys in (4, 5, 9, 30, 31):
        tensors = scores(2, 2, 3, 8).round(), scores(2, keys, 8).round(), scores(2, 2, 3).round()
        assert torch.equal(compiled(*tensors), dmask.indexer_topk(*tensors, 5, is_causal=True))
    assert counter.frame_count == 1
