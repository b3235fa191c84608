"""What compiled code costs, and limits on that.

This module is a leaf of the package: it imports no other module of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Frame:
    """A function that Dynamo compiled, and what that costs."""

    name: str
    """The function or resume function."""
    file: str
    line: int
    """Its first line."""
    entries: int = 1
    """How many times it was compiled. A call checks the guards of one after another."""
    graphs: int = 0
    ops: int = 0
    """The ops of all its graphs."""
    guards: int = 0
    """The guards of all entries."""
    seconds: float = 0.0
    """How long all compilations took, with the backend."""


@dataclass(frozen=True)
class Limits:
    """The largest costs of a frame. `None` sets no limit."""

    entries: int | None = None
    guards: int | None = None
    seconds: float | None = None


UNLIMITED: Final = Limits()
