"""Looks up private attributes of PyTorch. `_compat` lists those in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import torch


def _present(found: Any) -> bool:
    return True


@dataclass(frozen=True)
class PrivateAPI:
    """A private attribute of PyTorch that may be missing or different."""

    path: str
    """Module and attribute, in the format of `pkgutil.resolve_name`."""
    consequence: str
    """The detector that is affected if the attribute is missing, and how."""
    usable: Callable[[Any], bool] = _present
    """False if the attribute exists but is not what the audit expects."""
    only_for: str = ""
    """The gate or backend that needs it. Empty if every audit needs it."""

    def get(self) -> Any:
        """Returns the attribute, or None if it is missing or has changed."""
        try:
            found = resolve_name(self.path)
            return found if self.usable(found) else None
        except Exception:  # a changed API may raise anything when it is probed
            return None

    def note(self) -> str:
        """Returns the line to add to the notes of a report."""
        try:
            resolve_name(self.path)
            state = "has changed"
        except (ImportError, AttributeError):
            state = "is missing"
        name = self.path.replace(":", ".")
        return f"{self.consequence}: {name} {state} in torch {torch.__version__}"
