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
class Times:
    """How long a call takes when everything is compiled, in the round of median length."""

    rounds: int
    """How often the calls were measured."""
    seconds: float
    """One call; if there are several, their mean."""
    graph_seconds: float
    """The part of it inside compiled graphs."""

    def share(self, seconds: float) -> str:
        """Says how much of a call some seconds are.

        >>> Times(5, seconds=0.0066, graph_seconds=0.004).share(0.0008)
        "12% of a call's time (0.8 of 6.6 ms)"
        """
        share = seconds / self.seconds
        percent = f"{share:.0%}" if share >= 0.005 else "under 1%"
        return f"{percent} of a call's time ({milliseconds(seconds, self.seconds)})"


def milliseconds(part: float, whole: float) -> str:
    """Returns a part of some seconds in milliseconds, with more digits for short times.

    >>> milliseconds(0.0008, 0.0066), milliseconds(0.000012, 0.0001)
    ('0.8 of 6.6 ms', '0.012 of 0.100 ms')
    """
    digits = 1 if whole >= 0.001 else 3
    return f"{1e3 * part:.{digits}f} of {1e3 * whole:.{digits}f} ms"


@dataclass(frozen=True)
class Limits:
    """The largest costs of a frame. `None` sets no limit."""

    entries: int | None = None
    guards: int | None = None
    seconds: float | None = None


UNLIMITED: Final = Limits()
