"""Graph breaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from compile_checks._engine.costs import Times
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


def check(breaks: Iterable[GraphBreak], times: Times | None = None) -> Iterator[Finding]:
    """Yields one finding for each place and headline, in order of first occurrence.

    A helper breaks once at each place where it is inlined, and once when it is compiled separately.
    A resume function may break at the same line as its function. All of these are one line to fix.
    """
    merged: dict[tuple[str, int, str], list[GraphBreak]] = {}
    for b in breaks:
        merged.setdefault(place(b), []).append(b)
    for same in merged.values():
        yield _finding(same, times)


def place(found: GraphBreak | Finding) -> tuple[str, int, str]:
    """Returns what a finding and the breaks that it merges have in common."""
    return found.file, found.line, headline(found.reason)


def _finding(same: Sequence[GraphBreak], times: Times | None) -> Finding:
    b = same[0]
    measured = [other.seconds for other in same if other.seconds is not None]
    seconds = sum(measured) if measured else None
    costs = [times.share(seconds)] if times is not None and seconds is not None else []
    return RULE.finding(
        b.reason,
        b.hint,
        gb_id=b.gb_id,
        file=b.file,
        line=b.line,
        source=b.source,
        owner=b.owner,
        count=len(same),
        called_from=b.called_from,
        cost=", ".join([*costs, *_ops(b)]),
        seconds=seconds,
    )


def _ops(graph_break: GraphBreak) -> Iterator[str]:
    before, after = graph_break.ops_before, graph_break.ops_after
    if before + after:
        yield f"{before} op{'' if before == 1 else 's'} in the graph before it, {after} in the next"
