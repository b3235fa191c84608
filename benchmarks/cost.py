"""Measures `create_mask` and `select` relative to the inlined path, for many kinds of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import dmask
from benchmarks.paths import causal, compare_only, compiled, create
from benchmarks.timing import Call, Timed, compare, finished
from tests.support.inlined import inlined_path


class Line(NamedTuple):
    """A case, with dmask and the floor compared with the inlined path."""

    name: str
    dmask: Timed
    inlined: Timed
    floor: Timed


class Case(NamedTuple):
    shape: tuple[int, int, int, int]
    window_size: int
    dtype: torch.dtype = torch.float32
    tie_break: str = "torch"
    mask: Callable[[tuple[int, ...]], Tensor] | None = None
    mode: str = "eager"


def _random_mask(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.1


PROMPT, DECODE = (1, 2, 1024, 4096), (1, 2, 1, 256)
CASES = {
    "prompt, fp32": Case(PROMPT, 1024),
    "prompt, fp32, mask": Case(PROMPT, 1024, mask=_random_mask),
    "prompt, fp32, compiled": Case(PROMPT, 1024, mode="compiled"),
    "prompt, bf16, lowest": Case(PROMPT, 1024, torch.bfloat16, "lowest"),
    "prompt, fp16, lowest": Case(PROMPT, 1024, torch.float16, "lowest"),
    "prompt, bf16": Case(PROMPT, 1024, torch.bfloat16),
    "32k keys, bf16, lowest": Case((1, 2, 64, 32768), 2048, torch.bfloat16, "lowest"),
    "128k keys, fp32": Case((1, 2, 8, 131072), 2048),
    "512k keys, one query, fp32": Case((1, 2, 1, 524288), 2048),
    "causal, bias per query, fp32": Case(
        (1, 2, 2048, 2048), 512, mask=lambda shape: causal(*shape[2:])
    ),
    "decode, fp32": Case(DECODE, 64),
    "decode, fp32, compiled": Case(DECODE, 64, mode="compiled"),
    "decode, fp32, mask": Case(DECODE, 64, mask=_random_mask),
    "decode, fp32, mask, compiled": Case(DECODE, 64, mask=_random_mask, mode="compiled"),
}


def measure(device: str = "cpu") -> Iterator[Line]:
    """Measures every case, and a selection for a long prompt with a bias per key."""
    for name, case in CASES.items():
        generator = torch.Generator().manual_seed(0)
        bias = torch.randn(case.shape, generator=generator).to(case.dtype).to(device)
        mask = None if case.mask is None else case.mask(case.shape).to(device)
        calls = (
            partial(_of(case, create), bias, mask, case.window_size, case.tie_break),
            partial(_of(case, inlined_path), bias, mask, case.window_size),
            partial(compare_only, bias, mask, case.window_size),
        )
        name = f"{name} {list(case.shape)}, k {case.window_size}"
        yield _line(name, *(finished(call, device) for call in calls))
    if device == "cpu":
        yield long_prompt()


def long_prompt(query_len: int = 16384, window_size: int = 1024) -> Line:
    """Measures a causal `select` with a bias per key against the dense path that it replaces."""
    bias = torch.randn(1, 2, 1, query_len, generator=torch.Generator().manual_seed(0))
    mask = causal(query_len, query_len)
    dense = bias.expand(1, 2, query_len, query_len)
    return _line(
        f"select, causal, bias per key {list(bias.shape)}, k {window_size}",
        lambda: dmask.select(bias, window_size, is_causal=True, query_len=query_len),
        lambda: inlined_path(dense, mask, window_size),
        lambda: compare_only(dense, mask, window_size),
    )


def _of(case: Case, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return compiled(make) if case.mode == "compiled" else make


def _line(name: str, new: Call, old: Call, floor: Call) -> Line:
    timed = compare({"dmask": new, "inlined": old, "floor": floor}, baseline="inlined")
    return Line(name, timed["dmask"], timed["inlined"], timed["floor"])
