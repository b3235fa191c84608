"""Finds graph breaks, recompiles and silent fallbacks of `torch.compile`, and where they come from.

`audit(fn, args)` compiles and calls a function and reports what Dynamo did. `watch()` reports on
everything that is compiled within a block. `python -m compile_checks` audits the targets of a
project.

Importing this imports no torch: pytest loads the plugin in any environment that has this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compile_checks._engine.findings import (
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Mode,
    Recompile,
)
from compile_checks.rules import KINDS

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
"""The modules of `_engine` that define the names that need torch."""

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
    """Imports a name that needs torch on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}._engine.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
