"""Counters of PyTorch, or the two modes of compilation, that disagree with the structured trace.

No counter of graph breaks is complete, but what each one misses is known. If neither the trace nor
the known misses explain a count, the trace has missed something or PyTorch has changed. Either way,
someone needs to look into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from compile_checks._engine.findings import AuditReport, Finding, GraphBreak, headline
from compile_checks._engine.places import place_at
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.capture import Capture
    from compile_checks._engine.counts import Counts
    from compile_checks._engine.trace import Compilation

RULE = Rule(
    id="disagreement",
    summary="PyTorch's own counters differ from the audit for an unknown reason",
    cause="A counter of PyTorch counted something that its structured trace does not show, or vice "
    "versa. Or only one of the default mode and `fullgraph=True` has a graph break.",
    fix="Read `TORCH_LOGS=graph_breaks,recompiles` for the case, and report it to the project of "
    "`compile_checks`.",
)
_HINT = "one of the two missed something: read TORCH_LOGS=graph_breaks,recompiles, and report it"

UNLISTED = "only the structured trace has a break here, not graph_break_reasons"
"""The reason of a finding at a break that `graph_break_reasons` lacks."""

# Since torch 2.13, `fullgraph=True` captures data-dependent numbers and shapes. The default mode
# breaks the graph there and suggests these options.
_CAPTURED = ("capture_scalar_outputs", "capture_dynamic_output_shape_ops")


def check(
    compilations: Sequence[Compilation], counts: Counts, captures: Iterable[Capture]
) -> Iterator[Finding]:
    """Yields a finding for each unexplained difference between a counter and the trace.

    Args:
        captures: the graphs that the backend received, which `torch._dynamo.explain` counts.
    """
    started = [c for c in compilations if c.started]
    graphs = sum(c.has_graph for c in started)
    if counts.graphs not in (None, graphs):
        yield _differs("counters['stats']['unique_graphs']", counts.graphs, graphs, "graphs")
    # Code may also compile with other backends. A backend may receive a graph in parts or twice.
    traced = {c.compile_id for c in started if c.graph is not None}
    received = {capture.compile_id for capture in captures} - {""}
    if unknown := received - traced:
        said = f"the backend received graphs that the structured trace lacks: {sorted(unknown)}"
        yield RULE.finding(said, _HINT)
    # The counter misses breaks on branches and breaks whose frame is skipped, and forgets others
    # when Dynamo retries. A count below that of the trace is normal.
    met = sum(c.breaks_met for c in started)
    if counts.breaks is not None and counts.breaks > met:
        yield _differs("counters['graph_break']", counts.breaks, met, "graph breaks")
    yield from _one_sided_places(started, counts)


def _differs(who: str, counted: int | None, traced: int, what: str) -> Finding:
    return RULE.finding(f"{who} has {counted} {what}, but the structured trace has {traced}", _HINT)


def _one_sided_places(started: Sequence[Compilation], counts: Counts) -> Iterator[Finding]:
    """Yields a finding for each line at which only one of the trace and `graph_break_reasons` has a
    break. The latter lists every break after which a frame resumed.
    """
    if counts.reasons is None:
        return
    listed, stepped = set(counts.reasons), counts.stepped_back
    traced = {line for c in started for line in c.lines}
    broken = {(c.file, c.name) for c in started if c.breaks}
    listed |= {place for frame, place in stepped.items() if frame not in broken}
    resumed = {
        line for c in started if c.resumed and (c.file, c.name) not in stepped for line in c.lines
    }
    if len({c.compile_id for c in started}) < len(started):
        resumed = set()  # the code itself reset Dynamo, which clears the list and restarts the ids
    for places, said in (
        (
            listed - traced,
            "only graph_break_reasons has a break here, not the structured trace",
        ),
        (
            resumed - listed,
            UNLISTED,
        ),
    ):
        for file, line in sorted(places):
            yield place_at(file, line).of(RULE.finding(said, _HINT))


def check_modes(default: AuditReport, full: AuditReport) -> Iterator[Finding]:
    """Yields a finding if only one of the default mode and `fullgraph=True` has a graph break.

    >>> [str(finding) for finding in check_modes(AuditReport(1), AuditReport(1))]
    []
    """
    raised = any(finding.kind == "error" for finding in full.findings)
    unexplained = [
        b for b in default.graph_breaks if not any(option in b.hint for option in _CAPTURED)
    ]
    if full.graph_breaks and not default.graph_breaks:
        yield _one_sided(
            full.graph_breaks[0],
            "fullgraph=True raises at a graph break, but the default mode has none",
        )
    elif unexplained and not full.graph_breaks and not raised:
        yield _one_sided(unexplained[0], "fullgraph=True does not raise at a break")


def _one_sided(graph_break: GraphBreak, reason: str) -> Finding:
    finding = RULE.finding(f"{reason}: {headline(graph_break.reason)}", _HINT)
    return place_at(graph_break.file, graph_break.line, graph_break.owner).of(finding)
