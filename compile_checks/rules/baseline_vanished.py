"""Baseline entries whose finding no longer occurs."""

from __future__ import annotations

from collections.abc import Iterator

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="baseline-vanished",
    summary="a baseline entry accepts a finding that no longer occurs",
    cause="The accepted finding is gone, or occurs in fewer places than the baseline accepts.",
    fix="Run again with `--update-baseline` to remove the entry, so that the finding cannot come "
    "back unnoticed.",
)


def check(entry: str, accepted: int, found: int) -> Iterator[Finding]:
    """Yields a finding if an entry accepts more places than a run found."""
    if found < accepted:
        still = f"found at {found} of {accepted} places" if found else "no longer found"
        yield RULE.finding(f"{entry} ({still})")
