"""Orders findings by what they cost, and tells causes from consequences.

A consequence is a finding that would certainly not exist without the other one, or without it and
all others of its kind. For two findings of the same line, say, that is not known: these stay
separate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from compile_checks._engine.findings import AuditReport, Finding, GraphBreak, Kind
from compile_checks.rules import (
    cost_budget,
    crash,
    disagreement,
    error,
    fallback,
    graph_break,
    graph_budget,
    mismatch,
    nothing_compiled,
    recompile,
    recompile_limit,
    timeout,
)
from compile_checks.rules._causes import RESUMED, STACK

_WRONG: Final = (crash.RULE.id, error.RULE.id, mismatch.RULE.id, timeout.RULE.id)
"""Kinds that come first: the code fails or computes something else."""
_RECOMPILES: Final = (recompile.RULE.id, recompile_limit.RULE.id)


def ranked(report: AuditReport, max_graphs: int | None = None) -> AuditReport:
    """Returns a report with its findings in order, each followed by its consequences.

    Errors come first, then graph breaks, those first that cost most, then all others.

    Args:
        max_graphs: the number of graphs that may be compiled, if there is a budget.
    """
    ops = _ops_around(report.graph_breaks)
    causes: list[Finding] = []
    consequences: defaultdict[int, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        cause = _first_cause(finding, report, max_graphs)
        (causes if cause is finding else consequences[id(cause)]).append(finding)
    ordered: list[Finding] = []
    for cause in sorted(causes, key=lambda cause: _rank(cause, ops)):
        number = len(ordered) + 1
        ordered.append(replace(cause, number=number))
        for of_next, finding in enumerate(consequences[id(cause)], number + 1):
            ordered.append(replace(finding, number=of_next, caused_by=number))
    return replace(report, findings=tuple(ordered))


def _ops_around(breaks: Iterable[GraphBreak]) -> Mapping[object, int]:
    """Returns how many ops the graphs around each break have, by its place."""
    ops: dict[object, int] = {}
    for b in breaks:
        place = graph_break.place(b)
        ops[place] = max(ops.get(place, 0), b.ops_before + b.ops_after)
    return ops


def _rank(finding: Finding, ops: Mapping[object, int]) -> tuple[int, float, int]:
    """Returns what findings are sorted by."""
    if finding.kind in _WRONG:
        return 0, 0.0, 0
    if finding.kind != graph_break.RULE.id:
        return 2, 0.0, 0
    return 1, -(finding.seconds or 0.0), -ops.get(graph_break.place(finding), 0)


def _first_cause(finding: Finding, report: AuditReport, max_graphs: int | None) -> Finding:
    """Returns the finding at the start of a chain of causes. One without a cause is its own."""
    if finding.kind == graph_budget.RULE.id and max_graphs is not None:
        return next(_of_graphs(report, max_graphs), finding)
    find = _CAUSES.get(finding.kind)
    cause = None if find is None else next(find(finding, report), None)
    return finding if cause is None else _first_cause(cause, report, max_graphs)


def _breaks(report: AuditReport) -> list[Finding]:
    return [f for f in report.findings if f.kind == graph_break.RULE.id]


def _of_nothing(finding: Finding, report: AuditReport) -> Iterator[Finding]:
    """Yields what made Dynamo skip a whole function, if no function was compiled."""
    skipping = {graph_break.place(b) for b in report.graph_breaks if b.skipped}
    yield from (f for f in _breaks(report) if graph_break.place(f) in skipping)
    yield from (f for f in report.findings if f.kind == fallback.RULE.id)


def _of_graphs(report: AuditReport, max_graphs: int) -> Iterator[Finding]:
    """Yields the breaks, if there would be few enough graphs without the code that resumes.

    Not if anything was compiled again: whole functions might be, too, for each change.
    """
    if report.recompiles:
        return
    resumed = sum(frame.graphs for frame in report.frames if RESUMED.fullmatch(frame.name))
    # A function that breaks before its first op would have a graph.
    without = {b.compile_id for b in report.graph_breaks if b.ops_before == 0}
    if report.graphs - resumed + len(without) <= max_graphs:
        yield from _breaks(report)


def _of_recompile(finding: Finding, report: AuditReport) -> Iterator[Finding]:
    """Yields the break whose result changed. The code that resumes after it is guarded on that."""
    if not finding.argument.startswith(STACK):
        return
    breaks = _breaks(report)
    lines = [
        (r.file, int(resumed[2]))
        for r in report.recompiles
        if r.guard == finding.guard and (resumed := RESUMED.fullmatch(r.frame))
    ]
    yield from breaks if len(breaks) == 1 else (f for f in breaks if (f.file, f.line) in lines)


def _of_entries(finding: Finding, report: AuditReport) -> Iterator[Finding]:
    """Yields the recompiles because of which a function was compiled too often."""
    if not finding.reason.split(": ")[-1].startswith("compiled "):
        return
    name = finding.reason.rpartition(": ")[0]
    guards = {
        r.guard
        for r in report.recompiles
        if (r.frame, r.file, r.line) == (name, finding.file, finding.line)
    }
    yield from (f for f in report.findings if f.kind in _RECOMPILES and f.guard in guards)


def _of_counters(finding: Finding, report: AuditReport) -> Iterator[Finding]:
    """Yields the break that a counter of PyTorch lacks."""
    if finding.reason == disagreement.UNLISTED:
        at = finding.file, finding.line
        yield from (f for f in _breaks(report) if (f.file, f.line) == at)


_CAUSES: Final[Mapping[Kind, Callable[[Finding, AuditReport], Iterator[Finding]]]] = {
    cost_budget.RULE.id: _of_entries,
    disagreement.RULE.id: _of_counters,
    nothing_compiled.RULE.id: _of_nothing,
    recompile.RULE.id: _of_recompile,
    recompile_limit.RULE.id: _of_recompile,
}
