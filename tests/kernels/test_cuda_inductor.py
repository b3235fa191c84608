"""Compiled code on a GPU launches the kernels of ops, and gives the same results as eager code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code

import dmask
from dmask.samples import SAMPLES
from tests.kernels.test_cuda_graphs import CALLS, assert_same, on_cuda
from tests.support.scores import scores

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(("op", "name"), CALLS)
def test_compiled_samples_equal_eager(op: str, name: str) -> None:
    sample = on_cuda(SAMPLES[op][name]())
    tensors = [value for value in sample.args if isinstance(value, Tensor)]
    others = [value for value in sample.args if not isinstance(value, Tensor)]

    def call(*tensors: Tensor) -> Any:
        # The op gets results of the graph, and not its inputs.
        rest, results = iter(others), iter([tensor.clone() for tensor in tensors])
        args = [next(results) if isinstance(v, Tensor) else next(rest) for v in sample.args]
        found = getattr(torch.ops.dmask, op)(*args, **sample.kwargs)
        return (found,) if isinstance(found, Tensor) else tuple(found)

    found, codes = run_and_get_code(torch.compile(call, fullgraph=True), *tensors)
    assert_same(found, call(*tensors))
    float64 = any(tensor.dtype is torch.float64 for tensor in tensors)
    assert float64 or not any(f"torch.ops.dmask.{op}" in code for code in codes)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mask": lambda bias: dmask.topk_mask(bias, None, 50, tie_break="lowest").float() @ bias.mT,
    "indices": lambda bias: dmask.topk_indices(bias * 2, None, 50) + 1,
    "selection": lambda bias: dmask.select(bias * 2, 50, is_causal=True).to_mask(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1, 2, 4, 640), (1, 2, 256, 640), (1, 1, 1, 70_000)])
def test_launches_in_cuda_graphs(shape: tuple[int, ...], name: str) -> None:
    fn = FUNCTIONS[name]
    bias = scores(*shape).cuda()
    compiled = torch.compile(fn, fullgraph=True, mode="reduce-overhead")
    for factor in (1.0, -1.0, 0.5):
        result = compiled(bias * factor).clone()
        torch.testing.assert_close(result, fn(bias * factor))
