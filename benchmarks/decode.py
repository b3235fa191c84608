"""Measures decode steps: one query, and keys that grow by one per call.

No call is like the last: every call checks its arguments and plans its kernel again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import dmask
from tests.support.inlined import inlined_path

SHAPES = ((256, 64), (8192, 1024))
"""The numbers of keys at the start, and the windows."""
HEADS, STEPS, WARMUP = 8, 300, 20


class Line(NamedTuple):
    """One call at one number of keys."""

    keys: int
    name: str
    seconds: float
    """Median over the steps."""
    to_inlined: float
    """Seconds relative to the inlined path."""
    to_mask: float
    """Seconds relative to `maybe_create_mask`."""


def calls(window_size: int) -> dict[str, Callable[[Tensor], object]]:
    def mask(bias: Tensor) -> object:
        return dmask.maybe_create_mask(bias, None, 1, 1, bias.shape[3], window_size)

    return {
        "inlined": lambda bias: inlined_path(bias, None, window_size),
        "maybe_create_mask": mask,
        "select": lambda bias: dmask.select(bias, window_size),
        "select(...).to_indices()": lambda bias: dmask.select(bias, window_size).to_indices(),
        "topk_indices": lambda bias: dmask.topk_indices(bias, None, window_size),
    }


def measure() -> Iterator[Line]:
    generator = torch.Generator().manual_seed(0)
    for keys, window_size in SHAPES:
        named = calls(window_size)
        times: dict[str, list[float]] = {name: [] for name in named}
        for step in range(STEPS):
            bias = torch.randn(1, HEADS, 1, keys + step, generator=generator)
            for name, call in named.items():
                start = time.perf_counter()
                call(bias)
                times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(each[WARMUP:]) for name, each in times.items()}
        for name, seconds in medians.items():
            to_inlined = seconds / medians["inlined"]
            yield Line(keys, name, seconds, to_inlined, seconds / medians["maybe_create_mask"])
