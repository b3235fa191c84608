"""Captured graphs that differ from `expected_graph`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from compile_checks._engine.findings import CapturedGraph, Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="graph-snapshot",
    summary="the captured graph is not the expected one",
    cause="The captured graph differs from the one given as `expected_graph`.",
    fix="If the change is intended, update the expected graph. If not, the diff shows what "
    "changed.",
)
_HINT = "check the diff; update the expected graph only if the change is intended"


def check(graphs: Iterable[CapturedGraph], expected: str | Mapping[str, int]) -> Iterator[Finding]:
    """Yields a finding with a diff if the graphs are not as expected.

    Args:
        expected: the canonical text of all graphs, or the number of calls of each op.
    """
    graphs = [*graphs]
    if isinstance(expected, str):
        actual = "\n\n".join(graph.canonical for graph in graphs)
        was, now = expected.strip().splitlines(), actual.splitlines()
    else:
        counts: Counter[str] = Counter()
        for graph in graphs:
            counts.update(dict(graph.ops))
        was = [f"{op}: {count}" for op, count in sorted(expected.items()) if count]
        now = [f"{op}: {count}" for op, count in sorted(counts.items())]
    if was != now:
        lines = difflib.unified_diff(was, now, "expected", "captured", lineterm="")
        yield RULE.finding("\n".join(["the captured graph is not the expected one", *lines]), _HINT)
