"""Sequences of calls, each with its own recompile budget."""

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
    """The number of frames that the call may recompile. First compilations do not count."""
    name: str = ""

    def label(self, index: int) -> str:
        """Returns the name of this step in findings.

        >>> Step().label(0), Step(name="decode").label(1)
        ('call 1', 'call 2 (decode)')
        """
        return f"call {index + 1}" + (f" ({self.name})" if self.name else "")


Calls = Sequence[Step | Call] | Callable[[], Sequence[Step | Call]]
"""The calls of a scenario, or a function that creates them. Use a function if the calls modify
their inputs, such as a cache: it is called again for each round of calls."""


def steps_of(calls: Calls) -> tuple[Step, ...]:
    """Returns the calls as steps.

    Raises:
        TypeError: if a call is neither a `Step` nor a pair `(args, kwargs)`.
        ValueError: if there are no calls.
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
