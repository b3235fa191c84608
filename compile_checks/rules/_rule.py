"""The type of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compile_checks._engine.findings import Finding, Kind


@dataclass(frozen=True)
class Rule:
    """One kind of finding: what it means, what causes it and what to do about it."""

    id: Kind
    summary: str
    """The problem in a few words, for a table."""
    cause: str
    fix: str

    def finding(self, reason: str, hint: str = "", **fields: Any) -> Finding:
        """Returns a finding of this kind.

        Args:
            reason, hint, fields: the remaining fields of `Finding`.
        """
        return Finding(self.id, reason, hint, **fields)
