"""Compiled code on a GPU launches the kernels of ops, and gives the same results as eager code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code

import dmask
from dmask.samples import SAMPLES
from tests.kernels.test_cuda_graphs import CALLS, assert_same, on_cuda, run
from tests.support.scores import scores

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(("op", "name"), CALLS)
def test_compiled_samples_equal_eager(op: str, name: str) -> None:
    sample = on_cuda(SAMPLES[op][name]())

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        args = [next(given) if isinstance(each, Tensor) else each for each in sample.args]
        return run(op, sample._replace(args=tuple(args)))

    tensors = [each for each in sample.args if isinstance(each, Tensor)]
    assert_same(torch.compile(call, fullgraph=True)(*tensors), call(*tensors))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mask": lambda bias: dmask.topk_mask(bias, None, 50, tie_break="lowest").float() * bias,
    "indices": lambda bias: dmask.topk_indices(bias * 2, None, 50) + 1,
    "selection": lambda bias: dmask.select(bias * 2, 50, is_causal=True).to_mask(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_few_rows_are_launches(name: str) -> None:
    fn, bias = FUNCTIONS[name], scores(1, 2, 4, 640).cuda()
    result, codes = run_and_get_code(torch.compile(fn, fullgraph=True), bias)
    assert not any("torch.ops.dmask" in code for code in codes)
    assert torch.equal(result, fn(bias))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1, 2, 4, 640), (1, 2, 256, 640), (1, 1, 1, 70_000)])
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # Inductor's first one is
def test_launches_in_cuda_graphs(shape: tuple[int, ...], name: str) -> None:
    fn = FUNCTIONS[name]
    bias = scores(*shape).cuda()
    compiled = torch.compile(fn, fullgraph=True, mode="reduce-overhead")
    for factor in (1.0, -1.0, 0.5):
        assert torch.equal(compiled(bias * factor), fn(bias * factor))
