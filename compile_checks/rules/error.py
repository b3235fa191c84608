"""Exceptions that end an audit."""

from __future__ import annotations

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import place_of_error
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="error",
    summary="the audited code raised an exception",
    cause="The code raised an exception while it was audited.",
    fix="Call the code without `torch.compile` first: the inputs may be wrong. If that works, the "
    "compiler caused the error, and the error message says where.",
)


def finding(error: BaseException) -> Finding:
    """Returns a finding at the line that raised an exception."""
    return place_of_error(error).of(RULE.finding(f"{type(error).__name__}: {error}"))
