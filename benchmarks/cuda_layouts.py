"""Measures block masks and dense masks of a causal selection, and the host time of calls:
`python -m benchmarks --device cuda --only layouts`.

Block masks and dense masks are compared with the compiled `create_block_mask` and a compiled
comparison of the same thresholds. Device times are medians in milliseconds, host times in
microseconds; memory is the peak in MiB.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

import dmask
from benchmarks.paths import create
from tests.support.inlined import inlined_path as inlined

WINDOW, HEADS = 1024, 2
LENGTHS = 4096, 16384, 32768
HOST_SHAPE = (1, 8, 1, 4096)


def measure() -> Iterator[tuple[str, dict[str, float]]]:
    """Yields the name and figures of each line."""
    for queries in LENGTHS:
        yield f"block mask, {queries} tokens", _block_mask(queries)
        torch.cuda.empty_cache()
        yield f"mask, {queries} tokens", _mask(queries)
        torch.cuda.empty_cache()
    yield f"host time in us, {list(HOST_SHAPE)} k {WINDOW}", _host_times()


def line(name: str, figures: dict[str, float]) -> str:
    """Returns a line of the printed table."""
    return f"{name:<44} " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items())


def _bias(queries: int) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(0)
    return torch.randn((1, HEADS, 1, queries), generator=generator, device="cuda")


def _block_mask(queries: int) -> dict[str, float]:
    bias = _bias(queries)

    def ours() -> Any:
        selection = dmask.select(bias, WINDOW, is_causal=True, query_len=queries)
        return selection.to_block_mask()

    selection = dmask.select(bias, WINDOW, is_causal=True, query_len=queries)
    compiled = torch.compile(create_block_mask)
    theirs = partial(compiled, selection.mask_mod(), 1, HEADS, queries, queries, device="cuda")
    equal = torch.equal(ours().to_dense(), theirs().to_dense())
    return {
        "select + to_block_mask": _time(ours),
        "to_block_mask": _time(selection.to_block_mask),
        "compiled create_block_mask": _time(theirs),
        "MiB": _peak(ours),
        "MiB of create_block_mask": _peak(theirs),
        "equal": float(equal),
    }


def _mask(queries: int) -> dict[str, float]:
    selection = dmask.select(_bias(queries), WINDOW, is_causal=True, query_len=queries)
    compiled = torch.compile(dmask.Selection.to_mask)
    return {
        "to_mask": _time(selection.to_mask),
        "compiled to_mask": _time(partial(compiled, selection)),
        "equal": float(torch.equal(selection.to_mask(), compiled(selection))),
    }


def _time(call: Callable[[], Any]) -> float:
    from triton.testing import do_bench

    call()
    return float(do_bench(call, warmup=5, rep=25, return_mode="median"))


def _peak(call: Callable[[], Any]) -> float:
    """Returns the peak memory that a call allocates, in MiB."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _host_times() -> dict[str, float]:
    """Returns how long the host takes to start each call, in microseconds."""
    bias = torch.randn(HOST_SHAPE, device="cuda")
    calls: dict[str, Callable[[], Any]] = {
        "inlined": partial(inlined, bias, None, WINDOW),
        "create_mask": partial(create, bias, None, WINDOW, "torch"),
        "lowest": partial(create, bias, None, WINDOW, "lowest"),
        "select": partial(dmask.select, bias, WINDOW),
        "topk_indices": partial(dmask.topk_indices, bias, None, WINDOW),
    }
    return {name: _host_time(call) for name, call in calls.items()}


def _host_time(call: Callable[[], Any], count: int = 500, rounds: int = 9) -> float:
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        times.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(times)
