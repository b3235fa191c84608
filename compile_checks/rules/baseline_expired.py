"""Baseline entries whose last day has passed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="baseline-expired",
    summary="a baseline entry has expired",
    cause="The last day of a baseline entry has passed, so it no longer accepts its finding.",
    fix="Fix the finding, or accept it again: `--update-baseline --reason ... --expires ...`.",
)


def check(entry: str, expires: date, today: date) -> Iterator[Finding]:
    """Yields a finding if an entry has expired."""
    if expires < today:
        yield RULE.finding(f"{entry} (accepted until {expires})")
