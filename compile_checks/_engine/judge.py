"""Turns what Dynamo did into a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from compile_checks._engine.capture import Capture
from compile_checks._engine.costs import UNLIMITED, Frame, Limits
from compile_checks._engine.findings import (
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Recompile,
)
from compile_checks._engine.trace import Compilation
from compile_checks.rules import (
    cost_budget,
    fallback,
    graph_break,
    graph_budget,
    nothing_compiled,
    recompile,
    recompile_limit,
)


@dataclass(frozen=True)
class Allowance:
    """The number of recompiles that a group of compilations may include."""

    compilations: Sequence[Compilation]
    recompiles: int = 0
    what: str = "the code"
    """What the budget is for, such as `call 2`."""


def report(
    compilations: Sequence[Compilation],
    allowances: Iterable[Allowance],
    max_graphs: int | None = None,
    captures: Iterable[Capture] = (),
    parameters: Sequence[str] = (),
    limits: Limits = UNLIMITED,
) -> AuditReport:
    """Returns a report on what Dynamo did, with the findings that follow from that alone.

    Args:
        allowances: the budgets of recompiles, used only if `max_graphs` is `None`.
        max_graphs: the number of graphs that may be compiled, recompiles included.
        parameters: the names of the parameters of the audited function.
        limits: the largest costs of a frame.
    """
    frames = frames_in(compilations)
    graphs, breaks = graphs_in(compilations), breaks_in(compilations)
    recompiles = recompiles_in(compilations, parameters)
    findings: list[Finding] = [*graph_break.check(breaks)]
    over = {} if max_graphs is not None else recompile.check(_calls(allowances, parameters))
    over |= recompile_limit.check(compilations, parameters, over)
    findings += over.values()
    for compilation in compilations:
        findings += fallback.check(compilation)
    if max_graphs is not None:
        findings += graph_budget.check(graphs, max_graphs, recompiles)
    findings += cost_budget.check(frames, limits)
    findings += nothing_compiled.check(graphs, breaks)
    return AuditReport(
        graphs,
        breaks,
        recompiles,
        tuple(findings),
        captured_graphs=captured(compilations, captures),
        frames=frames,
    )


def _calls(allowances: Iterable[Allowance], parameters: Sequence[str]) -> Iterator[recompile.Call]:
    for allowance in allowances:
        recompiles = recompiles_in(allowance.compilations, parameters)
        yield recompile.Call(recompiles, allowance.recompiles, allowance.what)


def graphs_in(compilations: Iterable[Compilation]) -> int:
    """Returns the number of graphs."""
    return sum(c.has_graph for c in compilations if c.started)


def breaks_in(compilations: Iterable[Compilation]) -> tuple[GraphBreak, ...]:
    """Returns all graph breaks, with the sizes of the graphs on both sides."""
    started = [c for c in compilations if c.started]
    found: list[GraphBreak] = []
    for number, compilation in enumerate(started):
        later = (other.ops for other in started[number + 1 :] if other.has_graph)
        before, after, skipped = compilation.ops, next(later, 0), not compilation.resumed
        found += [
            replace(b, ops_before=before, ops_after=after, skipped=skipped)
            for b in compilation.breaks
        ]
    return tuple(found)


def frames_in(compilations: Iterable[Compilation]) -> tuple[Frame, ...]:
    """Returns what the compiled functions cost, those first that took longest."""
    frames: dict[tuple[str, str, int], Frame] = {}
    for c in compilations:
        if not (c.started and c.has_graph):
            continue
        new = Frame(c.name, c.file, c.line, 1, 1, c.ops, c.guards, round(c.seconds, 3))
        known = frames.get((c.name, c.file, c.line))
        frames[c.name, c.file, c.line] = new if known is None else _sum(known, new)
    return tuple(sorted(frames.values(), key=lambda frame: -frame.seconds))


def _sum(first: Frame, second: Frame) -> Frame:
    names = ("entries", "graphs", "ops", "guards", "seconds")
    sums = {name: getattr(first, name) + getattr(second, name) for name in names}
    return replace(first, **{**sums, "seconds": round(sums["seconds"], 3)})


def recompiles_in(
    compilations: Iterable[Compilation], parameters: Sequence[str]
) -> tuple[Recompile, ...]:
    """Returns all recompiles."""
    found = (c.as_recompile(parameters) for c in compilations if c.started)
    return tuple(recompiled for recompiled in found if recompiled is not None)


def captured(
    compilations: Iterable[Compilation], captures: Iterable[Capture] = ()
) -> tuple[CapturedGraph, ...]:
    """Returns the graphs, each with what the capturing backend recorded about it."""
    seen: Mapping[str, Capture] = {capture.compile_id: capture for capture in captures}
    nothing = Capture("", "", (), ())
    return tuple(
        CapturedGraph(
            c.compile_id,
            c.name,
            c.file,
            c.line,
            c.graph,
            canonical=seen.get(c.compile_id, nothing).canonical,
            ops=seen.get(c.compile_id, nothing).ops,
        )
        for c in compilations
        if c.graph is not None
    )
