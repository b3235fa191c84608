"""Timing on a machine that others use too: ratios, interleaved, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Call = Callable[[], object]


class Comparison(NamedTuple):
    """How a call compares with another one, measured side by side."""

    ratio: float
    """Median over the rounds of time over baseline's time: below 1 is faster."""
    seconds: float
    baseline_seconds: float


def compare(
    call: Call, baseline: Call, *, rounds: int = 21, block_seconds: float = 0.02
) -> Comparison:
    """Times two calls in turns: what slows the machine for a while slows both.

    A round is a block of the baseline and one of the call, each of about `block_seconds`.
    """
    loops = max(1, round(block_seconds / max(_seconds(baseline, 3), 1e-9)))
    _seconds(call, 3)
    times = [(_seconds(baseline, loops), _seconds(call, loops)) for _ in range(rounds)]
    return Comparison(
        statistics.median(new / old for old, new in times),
        statistics.median(new for _, new in times),
        statistics.median(old for old, _ in times),
    )


def _seconds(call: Call, loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops
