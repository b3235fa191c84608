"""PyTorch's other counts beside the structured trace: each difference must have its explanation.

No counter of graph breaks is right alone, but each misses in a way that is known. Where one says
what the trace and the known misses do not account for, either the trace missed something or
PyTorch has changed; a person should know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from torch._dynamo.output_graph import GraphCompileReason
from torch._dynamo.utils import counters, graph_break_reasons

from compile_checks._engine.breaks import headline
from compile_checks._engine.capture import Capture
from compile_checks._engine.findings import AuditReport, Finding, GraphBreak
from compile_checks._engine.places import place_at, place_of
from compile_checks._engine.trace import Compilation

# What `fullgraph=True` takes where the default mode breaks, from torch 2.13 on: it captures the
# numbers and shapes that depend on data.
_CAPTURED = ("capture_scalar_outputs", "capture_dynamic_output_shape_ops")

# How Dynamo calls it that it goes back to the last statement from which it can resume.
_STEPPED_BACK = "step_unsupported"


@dataclass(frozen=True)
class Counts:
    """What Dynamo's counters say of the code that ran since they were made."""

    graphs_before: int = field(default_factory=lambda: counters["stats"]["unique_graphs"])
    breaks_before: int = field(default_factory=lambda: counters["graph_break"].total())
    reasons_before: int = field(default_factory=lambda: len(graph_break_reasons))

    @property
    def graphs(self) -> int:
        return counters["stats"]["unique_graphs"] - self.graphs_before

    @property
    def breaks(self) -> int:
        return counters["graph_break"].total() - self.breaks_before

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """The places of breaks in `graph_break_reasons`."""
        places = (place_of(r.user_stack) for r in self._new if r.reason != _STEPPED_BACK)
        return [(place.file, place.line) for place in places]

    @property
    def stepped_back(self) -> dict[tuple[str, str], tuple[str, int]]:
        """The frames, by file and name, that left to eager mode a statement before their break.

        `graph_break_reasons` has the line where that statement begins. The break may be further
        down in it, or in a property that it reads.
        """
        frames = (r.user_stack[-1] for r in self._new if r.reason == _STEPPED_BACK)
        return {(f.filename, f.name): (f.filename, f.lineno or 0) for f in frames}

    @property
    def _new(self) -> list[GraphCompileReason]:
        return graph_break_reasons[self.reasons_before :]


def disagreements(
    compilations: Sequence[Compilation], counts: Counts, captures: Iterable[Capture]
) -> Iterator[Finding]:
    """Where the trace and a counter differ, and no known miss of the counter explains it.

    Args:
        captures: the graphs that the backend was given, as `torch._dynamo.explain` counts them.
    """
    started = [c for c in compilations if c.started]
    graphs = sum(c.has_graph for c in started)
    if graphs != counts.graphs:
        yield _disagreement("counters['stats']['unique_graphs']", counts.graphs, graphs, "graphs")
    # Code may compile by other backends too. A backend may be given a graph in parts, or twice.
    drawn = {c.compile_id for c in started if c.graph is not None}
    given = {capture.compile_id for capture in captures}
    if given - drawn:
        yield _disagreement("the backend", len(given), len(drawn), "graphs")
    # The counter knows no break on a branch, none whose frame is skipped, and takes others back
    # when it tries another way: fewer are no surprise.
    met = sum(c.breaks_met for c in started)
    if counts.breaks > met:
        yield _disagreement("counters['graph_break']", counts.breaks, met, "graph breaks")
    yield from _misplaced(started, counts)


def _disagreement(who: str, counted: int, traced: int, what: str) -> Finding:
    reason = f"{who} has {counted} {what}, the structured trace {traced}"
    return Finding("disagreement", reason, hint=_HINT)


_HINT = "one of the two misses something: read TORCH_LOGS=graph_breaks,recompiles, and report it"


def _misplaced(started: Sequence[Compilation], counts: Counts) -> Iterator[Finding]:
    """`graph_break_reasons` has all breaks from which a frame resumed, and may have others."""
    listed, stepped = set(counts.reasons), counts.stepped_back
    traced = {(b.file, b.line) for c in started for b in c.breaks}
    broken = {(c.file, c.name) for c in started if c.breaks}
    listed |= {place for frame, place in stepped.items() if frame not in broken}
    resumed = {
        (b.file, b.line)
        for c in started
        if c.resumed and (c.file, c.name) not in stepped
        for b in c.breaks
    }
    if len({c.compile_id for c in started}) < len(started):
        resumed = set()  # the code itself has reset Dynamo, which clears the list with the ids
    for places, said in (
        (listed - traced, "graph_break_reasons has a break here, the structured trace has not"),
        (resumed - listed, "the structured trace has a break here, graph_break_reasons has not"),
    ):
        for file, line in sorted(places):
            yield place_at(file, line).of(Finding("disagreement", said, hint=_HINT))


def unlike_fullgraph(default: AuditReport, full: AuditReport) -> Iterator[Finding]:
    """Where the default mode and `fullgraph=True` differ on whether there is a break.

    >>> [str(finding) for finding in unlike_fullgraph(AuditReport(1), AuditReport(1))]
    []
    """
    lifted = [b for b in default.graph_breaks if any(option in b.hint for option in _CAPTURED)]
    if full.graph_breaks and not default.graph_breaks:
        yield _one_sided(
            full.graph_breaks[0], "fullgraph=True raises where the default mode goes on"
        )
    elif len(default.graph_breaks) > len(lifted) and not full.graph_breaks and not _raised(full):
        graph_break = next(b for b in default.graph_breaks if b not in lifted)
        yield _one_sided(graph_break, "fullgraph=True passes over a break of the default mode")


def _raised(report: AuditReport) -> bool:
    return any(finding.kind == "error" for finding in report.findings)


def _one_sided(graph_break: GraphBreak, reason: str) -> Finding:
    finding = Finding("disagreement", f"{reason}: {headline(graph_break.reason)}", hint=_HINT)
    return place_at(graph_break.file, graph_break.line, graph_break.owner).of(finding)
