"""Timing on a machine that others use too: ratios, interleaved, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

Call = Callable[[], object]


class Timed(NamedTuple):
    """How a call compares with the baseline of its run."""

    ratio: float
    """Median over the rounds of its time over the baseline's: below 1 is faster."""
    seconds: float
    """Median. Of this machine at this moment: only ratios mean something elsewhere."""


def compare(
    calls: Mapping[str, Call],
    baseline: str,
    *,
    rounds: int = 21,
    block_seconds: float = 0.02,
    budget_seconds: float = 20.0,
) -> dict[str, Timed]:
    """Times calls in turns: what slows the machine for a while slows all of them.

    A round is a block of each, of about `block_seconds` for the baseline. There are `rounds` of
    them, or as many as `budget_seconds` allow, and never fewer than 7.
    """
    for call in calls.values():
        call()  # what the first call of a thing costs is not its cost
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
