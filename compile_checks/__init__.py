"""Graph breaks, recompiles and silent fallbacks of `torch.compile`, found and placed in your code.

`audit(fn, args)` compiles and calls a function and reports what Dynamo did; `watch()` does so for
whatever compiles within a block. `python -m compile_checks` audits all of dmask.
"""

from compile_checks.audit import Case, Watch, audit, audit_calls, watch
from compile_checks.report import AuditReport, Finding
from compile_checks.trace import GraphBreak, Recompile

__all__ = [
    "AuditReport",
    "Case",
    "Finding",
    "GraphBreak",
    "Recompile",
    "Watch",
    "audit",
    "audit_calls",
    "watch",
]
