"""Backward audits in which no output requires grad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="no-gradient",
    summary="a backward pass was requested, but no output requires grad",
    cause="A backward pass was requested, but no output of a call requires grad.",
    fix="Set `requires_grad=True` on an input or a parameter, or audit without the backward pass.",
)


def check(back_propagated: Iterable[bool]) -> Iterator[Finding]:
    """Yields a finding if a call had no output to back-propagate."""
    if not all(back_propagated):
        yield RULE.finding("no output requires grad: no backward was audited")
