"""Cases that crash their worker process."""

from __future__ import annotations

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="crash",
    summary="the case's process exited before the case finished",
    cause="The process died from a segmentation fault, a signal or `os._exit`.",
    fix="Run only that case under `python -X faulthandler`.",
)


def finding(exit_code: int) -> Finding:
    """Returns the finding for an exit code of `multiprocessing`, which is negative for a signal."""
    status = f"exited with status {exit_code}"
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else status
    return RULE.finding(f"the process of this case {how}")
