"""Finds graph breaks, recompiles and silent fallbacks of `torch.compile`, and where they start.

`audit(fn, args)` compiles and calls a function and reports what Dynamo did. `watch()` reports
everything that is compiled within a block. `python -m compile_checks` audits the targets of a
project.

Importing this package does not import torch, because pytest loads the plugin in any environment
that has the package installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import compile_checks._command_path  # noqa: F401  # first: decides where modules are found
from compile_checks._engine.costs import Frame, Limits, Times
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

_LAZY_MODULES = {
    "Case": "case",
    "Step": "scenarios",
    "Watch": "watching",
    "audit": "audit",
    "audit_calls": "audit",
    "audit_modes": "case",
    "watch": "watching",
}
"""Public names that need torch, and the module of `_engine` that defines each."""

__all__ = [
    "KINDS",
    "AuditReport",
    "CapturedGraph",
    "Case",
    "Finding",
    "Frame",
    "GraphBreak",
    "Limits",
    "Mode",
    "Recompile",
    "Step",
    "Times",
    "Watch",
    "audit",
    "audit_calls",
    "audit_modes",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Imports a name that needs torch on first use (PEP 562)."""
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}._engine.{_LAZY_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_LAZY_MODULES]
