"""Graph breaks, recompiles and silent fallbacks of `torch.compile`, found and placed in your code.

`audit(fn, args)` compiles and calls a function and reports what Dynamo did; `watch()` does so for
whatever compiles within a block. `python -m compile_checks` audits all of dmask.
"""

from compile_checks.audit import audit, audit_calls
from compile_checks.case import Case, audit_modes
from compile_checks.findings import (
    KINDS,
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Mode,
    Recompile,
)
from compile_checks.scenarios import Step
from compile_checks.watching import Watch, watch

__all__ = [
    "KINDS",
    "AuditReport",
    "CapturedGraph",
    "Case",
    "Finding",
    "GraphBreak",
    "Mode",
    "Recompile",
    "Step",
    "Watch",
    "audit",
    "audit_calls",
    "audit_modes",
    "watch",
]
