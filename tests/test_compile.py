"""dmask under torch.compile: one op per mask, few graphs, the same masks."""

from __future__ import annotations

import expecttest
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter, EagerAndRecordGraphs

import dmask
from tests.support.scores import scores
from tests.test_attention import inputs

LENGTHS = (8, 12, 16, 17, 24, 40)


def create(bias: Tensor) -> Tensor:
    return dmask.create_mask(bias, None, 1, bias.shape[2], bias.shape[3], 16)


def maybe(bias: Tensor) -> Tensor | None:
    return dmask.maybe_create_mask(bias, None, 1, bias.shape[2], bias.shape[3], 16)


@pytest.mark.parametrize(
    ("fn", "dynamic", "budget"),
    [(create, None, 2), (create, True, 1), (maybe, None, 3), (maybe, True, 2)],
)
def test_graphs_stay_within_budget_as_keys_grow(fn, dynamic: bool | None, budget: int) -> None:
    counter = CompileCounter()
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic, backend=counter)
    for key_len in LENGTHS:
        bias = scores(1, 2, 3, key_len)
        expected = fn(bias)
        got = compiled(bias)
        assert (got is None and expected is None) or torch.equal(got, expected)
    # A graph that only returns None is not counted, so the count may be below the budget.
    assert counter.frame_count <= budget


def test_prefill_then_decode_recompiles_once() -> None:
    counter = CompileCounter()
    compiled = torch.compile(create, fullgraph=True, backend=counter)
    compiled(scores(1, 2, 20, 20))
    for key_len in range(21, 26):
        compiled(scores(1, 2, 1, key_len))
    assert counter.frame_count <= 3  # prefill, the first decode, then key_len is dynamic


@pytest.mark.parametrize("dynamic", [None, True, False])
@pytest.mark.parametrize("tie_break", ["torch", "lowest"])
def test_inductor_gives_the_same_masks(dynamic: bool | None, tie_break: str) -> None:
    bias, mask = scores(2, 4, 3, 33).mul(2).round(), scores(2, 33) > -0.5

    def fn(bias: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        arguments = (bias, mask, 2, 3, 33)
        return (
            dmask.create_mask(*arguments, 7, tie_break=tie_break),
            dmask.create_mask(*arguments, 7, None, 4, tie_break=tie_break),
            dmask.create_mask(*arguments, 7, type="relu"),
            dmask.topk_indices(bias, mask[:, None, None], 7),
        )

    got = torch.compile(fn, fullgraph=True, dynamic=dynamic)(bias, mask)
    for compiled, eager in zip(got, fn(bias, mask), strict=True):
        assert torch.equal(compiled, eager)


def test_the_graph_of_an_attention_step_holds_one_op_per_mask() -> None:
    backend = EagerAndRecordGraphs()

    def step(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return dmask.dynamic_mask_attention(
            query, key, value, bias, mask, window_size=4, is_causal=True
        )

    padding = torch.ones(2, 9, dtype=torch.bool)
    torch.compile(step, fullgraph=True, backend=backend)(*inputs(), padding)
    (graph,) = backend.graphs
    targets = [node.target for node in graph.graph.nodes if node.op.startswith("call")]
    names = [getattr(target, "__name__", str(target)) for target in targets]
    assert sum("mask.default" in name for name in names) == 1
    expecttest.assert_expected_inline(
        "\n".join(names),
        """\
getitem
arange
add
arange
getitem
le
and_
create_mask.default
to
repeat_interleave
repeat_interleave
any
invert
or_
where
expand
contiguous
scaled_dot_product_attention
masked_fill""",
    )


def test_a_changing_window_is_not_a_constant() -> None:
    counter = CompileCounter()

    def fn(bias: Tensor, window_size: int) -> Tensor:
        return dmask.create_mask(bias, None, 1, 3, 16, window_size)

    compiled = torch.compile(fn, fullgraph=True, backend=counter, dynamic=True)
    for window_size in (3, 4, 5, 17):
        bias = scores(1, 2, 3, 16)
        assert torch.equal(compiled(bias, window_size), fn(bias, window_size))
    assert counter.frame_count == 1
