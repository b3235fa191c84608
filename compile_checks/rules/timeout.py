"""Cases that take longer than `--timeout`."""

from __future__ import annotations

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="timeout",
    summary="a case took longer than --timeout, and its process was killed",
    cause="The case hangs or takes longer than `--timeout` allows. Common reasons are a deadlock, "
    "a wait for another process and a slow compilation.",
    fix="Run only that case under `python -X faulthandler` and send it SIGABRT to see where it "
    "hangs, or raise the limit.",
)


def finding(seconds: float) -> Finding:
    """Returns the finding for a case that exceeded a time limit."""
    return RULE.finding(f"the case took longer than {seconds:g} s and was killed")
