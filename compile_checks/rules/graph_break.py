"""Graph breaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from compile_checks._engine.findings import Finding, GraphBreak, headline
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="graph-break",
    summary="a graph ended before the code did",
    cause="Dynamo cannot capture a line of code. It ends one graph there and starts another after "
    "it.",
    fix="Follow the hint and PyTorch's page on the break. Often `torch.where`, `torch.cond` or a "
    "constant can replace `.item()`. Move code that only logs out of the compiled function.",
)

REJECTED = "the backend rejected the graph"
"""How the reason begins if Dynamo captured a graph that the backend did not compile."""


def check(breaks: Iterable[GraphBreak]) -> Iterator[Finding]:
    """Yields one finding for each place and headline, in order of first occurrence.

    A helper breaks once at each place where it is inlined, and once when it is compiled separately.
    A resume function may break at the same line as its function. All of these are one line to fix.
    """
    merged: dict[tuple[str, int, str], Finding] = {}
    for b in breaks:
        key = b.file, b.line, headline(b.reason)
        if key in merged:
            merged[key] = replace(merged[key], count=merged[key].count + 1)
        else:
            merged[key] = _finding(b)
    yield from merged.values()


def _finding(graph_break: GraphBreak) -> Finding:
    b = graph_break
    return RULE.finding(
        b.reason,
        b.hint,
        gb_id=b.gb_id,
        file=b.file,
        line=b.line,
        source=b.source,
        owner=b.owner,
        called_from=b.called_from,
        cost=_cost(b),
    )


def _cost(graph_break: GraphBreak) -> str:
    before, after = graph_break.ops_before, graph_break.ops_after
    if before + after == 0:
        return ""
    return f"{before} op{'' if before == 1 else 's'} in the graph before it, {after} in the next"
