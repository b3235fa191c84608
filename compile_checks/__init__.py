"""Graph breaks, recompiles and silent fallbacks of `torch.compile`, found and placed in your code.

`audit(fn, args)` compiles and calls a function and reports what Dynamo did; `watch()` does so for
whatever compiles within a block. `python -m compile_checks` audits all of dmask.

Importing this imports no torch: pytest loads the plugin in it wherever this project is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compile_checks._engine.findings import (
    KINDS,
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Mode,
    Recompile,
)

if TYPE_CHECKING:
    from compile_checks._engine.audit import audit, audit_calls
    from compile_checks._engine.case import Case, audit_modes
    from compile_checks._engine.scenarios import Step
    from compile_checks._engine.watching import Watch, watch

_HOMES = {
    "Case": "case",
    "Step": "scenarios",
    "Watch": "watching",
    "audit": "audit",
    "audit_calls": "audit",
    "audit_modes": "case",
    "watch": "watching",
}

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


def __getattr__(name: str) -> Any:
    """Imports what needs torch when it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}._engine.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
