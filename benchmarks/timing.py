"""Timing for busy machines: medians of ratios between interleaved calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

Call = Callable[[], object]


class Timed(NamedTuple):
    """How a call compares with the baseline of its run."""

    ratio: float
    """Median over the rounds of this call's time divided by the baseline's. Below 1 is faster."""
    seconds: float
    """Median. It depends on the machine and its load; compare ratios, not seconds."""


def compare(
    calls: Mapping[str, Call],
    baseline: str,
    *,
    rounds: int = 21,
    block_seconds: float = 0.02,
    budget_seconds: float = 20.0,
) -> dict[str, Timed]:
    """Alternates between the calls, so that a slow phase of the machine slows all of them.

    A round times a block of repetitions of each call. A block of the baseline takes about
    `block_seconds`. There are `rounds` rounds, or as many as fit in `budget_seconds`, but at least
    7.
    """
    for call in calls.values():
        call()  # the first call may compile or load something
    loops = max(1, round(block_seconds / max(_seconds(calls[baseline], 3), 1e-9)))
    first = sum(_seconds(call, loops) * loops for call in calls.values())
    rounds = max(7, min(rounds, int(budget_seconds / max(first, 1e-9))))
    times = [{name: _seconds(call, loops) for name, call in calls.items()} for _ in range(rounds)]
    return {
        name: Timed(
            statistics.median(each[name] / each[baseline] for each in times),
            statistics.median(each[name] for each in times),
        )
        for name in calls
    }


def _seconds(call: Call, loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def finished(call: Call, device: str) -> Call:
    """Returns a call that also waits for the device, which may run on after `call` returns."""
    if device == "cpu":
        return call

    def wait() -> object:
        result = call()
        torch.accelerator.synchronize()
        return result

    return wait
