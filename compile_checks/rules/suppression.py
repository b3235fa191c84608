"""Comments that ignore findings, and are unused or incomplete."""

from __future__ import annotations

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import place_at
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="suppression",
    summary="a comment that ignores findings is unused or incomplete",
    cause="A graph comes from the line, without the graph break that the comment ignores. Or the "
    "comment names no known kind, or gives no reason.",
    fix="Remove the comment, or complete it: `# compile-checks: ignore[graph-break] the reason`.",
)


def finding(reason: str, file: str, line: int) -> Finding:
    """Returns a finding at a comment."""
    return place_at(file, line).of(RULE.finding(reason))
