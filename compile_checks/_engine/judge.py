"""From what Dynamo did to what of it is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from compile_checks._engine.breaks import headline
from compile_checks._engine.capture import Capture
from compile_checks._engine.findings import (
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Recompile,
)
from compile_checks._engine.places import place_at
from compile_checks._engine.trace import Compilation


@dataclass(frozen=True)
class Allowance:
    """How many recompiles some of the compilations may be."""

    compilations: Sequence[Compilation]
    recompiles: int = 0
    what: str = "the code"
    """Who is allowed them, such as `call 2`."""


def report(
    compilations: Sequence[Compilation],
    allowances: Iterable[Allowance],
    max_graphs: int | None = None,
    captures: Iterable[Capture] = (),
    parameters: Sequence[str] = (),
) -> AuditReport:
    """What Dynamo did, and what of that is wrong by itself.

    Args:
        allowances: who may recompile how often, where `max_graphs` is `None`.
        max_graphs: how many graphs may be compiled, recompiles included.
        parameters: the names of those of the audited function.
    """
    graphs, breaks = graphs_in(compilations), breaks_in(compilations)
    findings = [*broken(breaks), *left_to_eager(compilations, parameters)]
    if max_graphs is None:
        findings += beyond_recompiles(allowances, parameters)
    else:
        findings += beyond_graphs(compilations, max_graphs, parameters)
    if graphs == 0:
        findings.append(Finding("nothing-compiled", "no graph was compiled"))
    return AuditReport(
        graphs,
        breaks,
        recompiles_in(compilations, parameters),
        tuple(findings),
        captured_graphs=captured(compilations, captures),
    )


def graphs_in(compilations: Iterable[Compilation]) -> int:
    return sum(c.has_graph for c in compilations if c.started)


def breaks_in(compilations: Iterable[Compilation]) -> tuple[GraphBreak, ...]:
    return tuple(b for c in compilations if c.started for b in c.breaks)


def recompiles_in(
    compilations: Iterable[Compilation], parameters: Sequence[str]
) -> tuple[Recompile, ...]:
    found = (c.recompile(parameters) for c in compilations if c.started)
    return tuple(recompile for recompile in found if recompile is not None)


def captured(
    compilations: Iterable[Compilation], captures: Iterable[Capture] = ()
) -> tuple[CapturedGraph, ...]:
    """The graphs, with what a backend saw of them where there was one that looked."""
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


def broken(breaks: Iterable[GraphBreak]) -> Iterator[Finding]:
    """One finding for each place and headline, in the order in which they were first met.

    A helper breaks once for each place that it is inlined at and once by itself, and a resume
    function may break where the function broke: that is one line to mend.
    """
    merged: dict[tuple[str, int, str], Finding] = {}
    for b in breaks:
        key = b.file, b.line, headline(b.reason)
        if key in merged:
            merged[key] = replace(merged[key], count=merged[key].count + 1)
        else:
            merged[key] = _finding_of(b)
    yield from merged.values()


def _finding_of(graph_break: GraphBreak) -> Finding:
    b = graph_break
    return Finding(
        "graph-break",
        b.reason,
        hint=b.hint,
        gb_id=b.gb_id,
        file=b.file,
        line=b.line,
        source=b.source,
        owner=b.owner,
    )


def left_to_eager(
    compilations: Iterable[Compilation], parameters: Sequence[str]
) -> Iterator[Finding]:
    """Frames that Dynamo turned away, and frames that it gave up on without a break."""
    for c in compilations:
        place = place_at(c.file, c.line)
        if c.failure is not None and not c.started:
            finding = Finding("recompile-limit", f"left to eager mode: {c.failure}", hint=_LIMIT)
            if recompile := c.recompile(parameters):
                reason = f"left to eager mode: {'; '.join(recompile.reasons)}"
                finding = _explained(replace(finding, reason=reason), recompile)
            yield place.of(finding)
        elif c.failure is not None and not c.breaks:
            yield place.of(Finding("fallback", c.failure))


_LIMIT = "let what changes be dynamic, or raise torch._dynamo.config.recompile_limit"


def beyond_graphs(
    compilations: Sequence[Compilation], max_graphs: int, parameters: Sequence[str]
) -> Iterator[Finding]:
    graphs = graphs_in(compilations)
    if graphs > max_graphs:
        recompiles = recompiles_in(compilations, parameters)
        changes = [f"{r.category} of {r.argument or r.guard}" for r in recompiles]
        hint = "recompiled for: " + "; ".join(dict.fromkeys(changes)) if changes else ""
        reason = f"{graphs} graphs compiled, at most {max_graphs} expected"
        yield Finding("graph-budget", reason, hint)


def beyond_recompiles(
    allowances: Iterable[Allowance], parameters: Sequence[str]
) -> Iterator[Finding]:
    """The recompiles of those who had more of them than they may have."""
    for allowance in allowances:
        recompiles = recompiles_in(allowance.compilations, parameters)
        if len(recompiles) <= allowance.recompiles:
            continue
        budget = f"{allowance.what} may cost {_counted(allowance.recompiles)}"
        for recompile in recompiles:
            yield _recompiled(recompile, f"{budget}, it cost {len(recompiles)}")


def _counted(recompiles: int) -> str:
    return {0: "no recompile", 1: "1 recompile"}.get(recompiles, f"{recompiles} recompiles")


def _recompiled(recompile: Recompile, budget: str) -> Finding:
    finding = _explained(Finding("recompile", "; ".join(recompile.reasons), budget), recompile)
    return place_at(recompile.file, recompile.line).of(finding)


def _explained(finding: Finding, recompile: Recompile) -> Finding:
    return replace(
        finding,
        guard=recompile.guard,
        argument=recompile.argument,
        category=recompile.category,
    )
