"""Inputs that are run in turn, each with its budget of recompiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Call = tuple[Sequence[Any], Mapping[str, Any]]
"""The positional and the keyword arguments of one call."""


@dataclass(frozen=True)
class Step:
    """One call of a scenario."""

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    recompiles: int = 0
    """How many frames it may compile anew. A first compilation is no recompile."""
    name: str = ""

    def label(self, index: int) -> str:
        """
        >>> Step().label(0), Step(name="decode").label(1)
        ('call 1', 'call 2 (decode)')
        """
        return f"call {index + 1}" + (f" ({self.name})" if self.name else "")


Calls = Sequence[Step | Call] | Callable[[], Sequence[Step | Call]]
"""The calls of a scenario, or a function that makes them anew: then inputs that a call changes,
such as a cache, are as new when the calls are made a second time."""


def steps_of(calls: Calls) -> tuple[Step, ...]:
    """The calls as steps.

    Raises:
        TypeError: where one is neither a `Step` nor a pair `(args, kwargs)`.
        ValueError: where there is none.
    """
    steps = tuple(_step(call) for call in (calls() if callable(calls) else calls))
    if not steps:
        raise ValueError("calls: expected at least one, got none")
    return steps


def _step(call: Step | Call) -> Step:
    match call:
        case Step():
            return call
        case (list() | tuple() as args, Mapping() as kwargs):
            return Step(args, kwargs)
    raise TypeError(f"calls: expected a Step or a pair (args, kwargs), got {type(call).__name__}")
