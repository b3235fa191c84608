"""Selections as dense masks: the op `kept_mask`, and `Selection.to_mask`."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import dmask
from tests.conftest import Mode
from tests.support.generate import Select, selects
from tests.support.oracle import expected_selection
from tests.support.scores import scores


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(selects())
def test_the_op_equals_a_loop(call: Select) -> None:
    selected = dmask.select(call.bias, call.window_size, **call.options)
    mask = torch.ops.dmask.kept_mask(*selected._selected(selected.query_len))
    assert torch.equal(mask, expected_selection(call))
    assert mask.is_contiguous()


def test_equal_rows_take_the_memory_of_one() -> None:
    mask = dmask.select(scores(1, 2, 1, 40), 7, query_len=1000).to_mask()
    assert mask.shape == (1, 2, 1000, 40)
    assert mask.untyped_storage().nbytes() == 2 * 40
    assert (mask.sum(dim=-1) == 7).all()


def test_a_compiler_sees_comparisons() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def fn(bias: Tensor) -> Tensor:
        return dmask.select(bias, 7, is_causal=True).to_mask()

    bias = scores(1, 2, 9, 40)
    assert torch.equal(torch.compile(fn, backend=counter)(bias), fn(bias))
    (graph,) = counter.graphs
    called = {node.target for node in graph.graph.nodes if node.op == "call_function"}
    assert torch.ops.dmask.select.default in called
    assert torch.ops.dmask.kept_mask.default not in called


def test_gradients_flow_past_the_mask(mode: Mode) -> None:
    bias = scores(1, 2, 3, 40).requires_grad_()

    def fn(bias: Tensor) -> Tensor:
        mask = dmask.select(bias, 7).to_mask()
        return torch.where(mask, bias, 0.0)

    mode(fn)(bias).sum().backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None
    assert torch.equal(bias.grad, dmask.select(bias.detach(), 7).to_mask().float())
