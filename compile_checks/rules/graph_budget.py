"""More graphs than `max_graphs` or `--budget` allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compile_checks._engine.findings import Finding, Recompile
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="graph-budget",
    summary="the calls compiled more graphs than allowed",
    cause="A value that changes between the calls was compiled in as a constant.",
    fix="Check which guard failed. Pass tensors instead of numbers, use `dynamic=True`, or "
    "raise the budget if the graphs are intended.",
)


def check(graphs: int, max_graphs: int, recompiles: Iterable[Recompile]) -> Iterator[Finding]:
    """Yields a finding if there are more graphs than allowed."""
    if graphs > max_graphs:
        changes = [f"{r.category} of {r.argument or r.guard}" for r in recompiles]
        hint = "recompiled because of: " + "; ".join(dict.fromkeys(changes)) if changes else ""
        yield RULE.finding(f"{graphs} graphs compiled, at most {max_graphs} expected", hint)
