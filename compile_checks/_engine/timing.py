"""Measures how much of a call is spent outside of its compiled graphs, and at which break.

Each graph stamps its start and its end. Between two graphs, Python runs in the innermost frame that
is on the stack of both. If a break ended the compiled part of that frame, the time belongs to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from types import FrameType
from typing import Any, Final, NamedTuple

import torch

from compile_checks._engine.costs import Times
from compile_checks._engine.trace import Compilation

MIN_ROUNDS: Final = 5
MAX_ROUNDS: Final = 25
SECONDS: Final = 1.0
"""No new round begins after this time, once there are `MIN_ROUNDS`."""

Key = tuple[str, str, int]
"""A function or resume function: its name, its file and its first line."""


class Location(NamedTuple):
    """Where a Python frame is."""

    function: Key
    line: int


Owners = Sequence[str]
"""For each gap of a call, the compilation that broke there; `""` if no break explains the gap."""


class GraphRun(NamedTuple):
    """One run of a compiled graph."""

    compile_id: str
    began: float
    ended: float
    stack: tuple[Location, ...] = ()
    """The Python frames that led to it, innermost last, if the stopwatch looks at them."""


@dataclass
class Stopwatch:
    """Stamps the runs of compiled graphs."""

    runs: list[GraphRun] = field(default_factory=list)
    stacks: bool = False
    """True to look at the stack of each run, which takes time."""

    def watching(self, compile_id: str, graph: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a compiled graph that stamps its runs."""

        def stamped(*args: Any) -> Any:
            stack = _stack(sys._getframe(1)) if self.stacks else ()
            began = time.perf_counter()
            try:
                return graph(*args)
            finally:
                self.runs.append(GraphRun(compile_id, began, time.perf_counter(), stack))

        return stamped


def _stack(innermost: FrameType | None) -> tuple[Location, ...]:
    locations = []
    while innermost is not None:
        code = innermost.f_code
        function = code.co_name, code.co_filename, code.co_firstlineno
        locations.append(Location(function, innermost.f_lineno or 0))
        innermost = innermost.f_back
    return tuple(reversed(locations))


class TimedCall(NamedTuple):
    """One call, and the graphs that ran in it."""

    began: float
    returned: float
    ended: float
    """When all work of a GPU was done."""
    runs: tuple[GraphRun, ...]

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that ran, in order."""
        return tuple(run.compile_id for run in self.runs)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def graph_seconds(self) -> float:
        """The part of it inside graphs."""
        return sum(run.ended - run.began for run in self.runs)

    def gaps(self) -> list[float]:
        """Returns the seconds before the first graph, between each two, and after the last."""
        ends = [self.began, *(run.ended for run in self.runs)]
        starts = [*(run.began for run in self.runs), self.returned]
        # Graphs that run in several threads may overlap.
        return [max(0.0, start - end) for end, start in zip(ends, starts, strict=True)]


def timed(stopwatch: Stopwatch, call: Callable[[], object]) -> TimedCall:
    """Makes a call and returns how long it took, with all work of a GPU."""
    _wait()
    stopwatch.runs.clear()
    began = time.perf_counter()
    result = call()
    returned = time.perf_counter()
    _wait()
    ended = time.perf_counter()
    del result  # what it takes to free it is no part of the call
    return TimedCall(began, returned, ended, tuple(stopwatch.runs))


def _wait() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def rounds(
    stopwatch: Stopwatch, calls: Callable[[], Iterable[TimedCall]]
) -> Iterator[Sequence[TimedCall]]:
    """Repeats calls. The first round has the stacks of the graphs, and is only a warm-up."""
    stopwatch.stacks = True
    yield [*calls()]
    stopwatch.stacks = False
    began = time.perf_counter()
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and time.perf_counter() - began > SECONDS:
            break
        yield [*calls()]


class Measurement(NamedTuple):
    """How long a call takes, and what it spends at breaks."""

    times: Times
    at_breaks: Mapping[str, float]
    """The seconds of a call at the breaks of each compilation, by its id."""


def measurement(
    made: Sequence[Sequence[TimedCall]], compilations: Sequence[Compilation]
) -> Measurement | None:
    """Returns what rounds of the same calls took, or None if too few ran the same graphs.

    Args:
        made: what `rounds` yields.
        compilations: everything that Dynamo compiled before.
    """
    first, *others = made
    ran = [call.graphs for call in first]
    measured = [calls for calls in others if [call.graphs for call in calls] == ran]
    if len(measured) < MIN_ROUNDS:
        return None
    # All figures are of one round, so that the parts never exceed the whole.
    measured.sort(key=lambda calls: sum(call.seconds for call in calls))
    typical = measured[(len(measured) - 1) // 2]
    owners = [_owners(call.runs, compilations) for call in first]

    def of_a_call(seconds: float) -> float:
        return round(seconds / len(ran), 9)

    times = Times(
        len(measured),
        of_a_call(sum(call.seconds for call in typical)),
        of_a_call(sum(call.graph_seconds for call in typical)),
    )
    at_breaks = _by_owner(typical, owners)
    return Measurement(times, {owner: of_a_call(spent) for owner, spent in at_breaks.items()})


def _by_owner(calls: Sequence[TimedCall], owners: Sequence[Owners]) -> dict[str, float]:
    """Returns the seconds at the breaks of each compilation."""
    seconds: dict[str, float] = {}
    for call, of_call in zip(calls, owners, strict=True):
        for owner, gap in zip(of_call, call.gaps(), strict=True):
            if owner:
                seconds[owner] = seconds.get(owner, 0.0) + gap
    return seconds


def _owners(runs: Sequence[GraphRun], compilations: Sequence[Compilation]) -> Owners:
    """Returns whose break explains each gap of a call."""
    broken = {c.compile_id: c for c in compilations if c.breaks}
    known = {(c.name, c.file, c.line) for c in compilations}
    stacks = [[frame for frame in run.stack if frame.function in known] for run in runs]

    def of_frames(frames: Sequence[Location], *, eager: bool = False) -> str:
        """Returns the innermost frame with a break; with `eager`, that Dynamo skipped for it."""
        for function, line in reversed(frames):
            entries = [
                c
                for c in broken.values()
                if (c.name, c.file, c.line) == function and not (eager and c.resumed)
            ]
            if entries:  # a function that was compiled again may break at another line
                here = (c for c in entries if line in c.broken_lines)
                return next(here, entries[0]).compile_id
        return ""

    if not runs:
        return [""]
    owners = [of_frames(stacks[0][:-1])]
    for run, before, after in zip(runs, stacks, stacks[1:], strict=False):
        shared = _shared(before, after[:-1])
        if len(shared) == len(before):  # the frame of the graph itself goes on
            owners.append(run.compile_id if run.compile_id in broken else "")
        else:
            owners.append(of_frames(shared[-1:]))
    last = runs[-1].compile_id
    owners.append(last if last in broken else of_frames(stacks[-1][:-1], eager=True))
    return owners


def _shared(first: Sequence[Location], second: Sequence[Location]) -> Sequence[Location]:
    """Returns the frames with which two stacks begin, where they are in the second."""
    pairs = zip(first, second, strict=False)
    same = takewhile(lambda pair: pair[0].function == pair[1].function, pairs)
    return [there for _, there in same]
