"""Ops on a GPU never wait for it, can be captured in CUDA graphs, and run on any stream."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from dmask.samples import SAMPLES, Sample
from tests.support.scores import scores

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CALLS = [(op, name) for op, samples in SAMPLES.items() for name in samples]


def on_cuda(sample: Sample) -> Sample:
    def move(value: Any) -> Any:
        return value.cuda() if isinstance(value, Tensor) else value

    args = tuple(map(move, sample.args))
    return Sample(args, {name: move(value) for name, value in sample.kwargs.items()})


def run(op: str, sample: Sample) -> tuple[Tensor, ...]:
    result = getattr(torch.ops.dmask, op)(*sample.args, **sample.kwargs)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("op", "name"), CALLS)
def test_samples_equal_the_cpu(op: str, name: str) -> None:
    sample = SAMPLES[op][name]()
    if op in ("create_mask", "topk_mask"):
        sample = sample._replace(kwargs={**sample.kwargs, "tie_break": "lowest"})
    assert_same(run(op, on_cuda(sample)), run(op, sample))


@pytest.mark.parametrize(("op", "name"), CALLS)
def test_no_op_waits_for_the_device(op: str, name: str) -> None:
    sample = on_cuda(SAMPLES[op][name]())
    with warnings.catch_warnings(action="ignore"):  # the mode is called a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            run(op, sample)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("op", "name"), CALLS)
def test_every_op_can_be_captured(op: str, name: str) -> None:
    sample = on_cuda(SAMPLES[op][name]())
    wanted = run(op, sample)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run(op, sample)
    for result in found:
        result.fill_(1)
    graph.replay()
    assert_same(found, wanted)


def test_replays_see_new_lengths() -> None:
    bias, lengths = scores(2, 2, 1, 300).cuda(), torch.tensor([300, 7]).cuda()

    def select() -> Tensor:
        return dmask.select(bias, 40, key_lengths=lengths, is_causal=True).to_mask()

    select()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = select()
    for new in ([3, 290], [0, 41]):
        lengths.copy_(torch.tensor(new))
        graph.replay()
        captured = found.clone()
        assert torch.equal(captured, select())


def test_replays_see_new_sequences_and_pages() -> None:
    bias = scores(1, 2, 40, 300).cuda()
    queries, keys = torch.tensor([0, 10, 40]).cuda(), torch.tensor([0, 90, 300]).cuda()
    table = torch.randperm(50).cuda()[None]

    def select() -> tuple[Tensor, Tensor]:
        ranges = dmask.packed_ranges(queries, keys, 40, is_causal=True)
        selected = dmask.select(bias, 30, key_ranges=ranges, sinks=2, local=3)
        indices = selected.to_indices(relative=True)
        return selected.to_mask(), dmask.page_indices(indices, table, 16)

    select()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = select()
    for new_queries, new_keys in (([0, 0, 25], [0, 7, 300]), ([0, 40, 40], [0, 1, 2])):
        queries.copy_(torch.tensor(new_queries))
        keys.copy_(torch.tensor(new_keys))
        table.copy_(torch.randperm(50)[None])
        graph.replay()
        assert_same(tuple(each.clone() for each in found), select())


def decode(bias: Tensor, lengths: Tensor, query: Tensor, cache: Tensor) -> Tensor:
    mask = dmask.select(bias, 16, key_lengths=lengths, is_causal=True).to_mask()
    return torch.nn.functional.scaled_dot_product_attention(query, cache, cache, attn_mask=mask)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # PyTorch captures one to start
def test_models_run_in_cuda_graphs() -> None:
    """`mode="reduce-overhead"` with lengths that change between replays."""
    torch.compiler.reset()
    compiled = torch.compile(decode, mode="reduce-overhead", fullgraph=True)
    bias, query = scores(2, 4, 1, 128).cuda(), torch.randn(2, 4, 1, 32, device="cuda")
    cache = torch.randn(2, 4, 128, 32, device="cuda")
    skips = torch._dynamo.utils.counters["inductor"]
    before = skips["cudagraph_skips"]
    for new in ([128, 5], [3, 60], [17, 128], [90, 90]):
        lengths = torch.tensor(new, device="cuda")
        torch.testing.assert_close(
            compiled(bias, lengths, query, cache), decode(bias, lengths, query, cache)
        )
    assert skips["cudagraph_skips"] == before


@pytest.mark.parametrize("keys", [700, 40_000])
def test_streams_do_not_disturb_each_other(keys: int) -> None:
    bias = scores(2, 4, 3, keys).cuda()
    calls: list[Callable[[], Tensor]] = [
        lambda: dmask.topk_mask(bias, None, 300, tie_break="lowest"),
        lambda: dmask.topk_indices(bias, None, 300),
    ]
    wanted = [call() for call in calls]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(8)]
    wrong = torch.zeros((), dtype=torch.int64, device="cuda")
    differing = []
    for i in range(1000):
        with torch.cuda.stream(streams[i % 8]):
            differing.append((calls[i % 2]() != wanted[i % 2]).any())
    torch.cuda.synchronize()
    wrong = torch.stack(differing).sum()
    assert int(wrong) == 0
