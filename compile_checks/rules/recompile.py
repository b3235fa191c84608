"""Recompiles beyond the budget of a call."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from compile_checks._engine.findings import Finding, Recompile
from compile_checks.rules._causes import by_cause, finding_of
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="recompile",
    summary="Dynamo compiled a frame again, more often than the call allows",
    cause="A guard failed: an argument that was compiled in as a constant has changed.",
    fix="The guard names the argument, and the hint has a line to add. Mark a size dynamic "
    "(`torch._dynamo.mark_dynamic`), pass a tensor instead of a number, keep an object's identity, "
    "or allow the recompile in a budget.",
)


class Call(NamedTuple):
    """The recompiles of a call."""

    recompiles: Sequence[Recompile]
    allowed: int
    what: str
    """What the budget is for, such as `call 2`."""


def check(calls: Iterable[Call]) -> dict[Hashable, Finding]:
    """Returns a finding for each cause of recompiles in calls that had more than allowed."""
    over = [call for call in calls if len(call.recompiles) > call.allowed]
    budgets = {
        id(r): f"{call.what} had {_counted(len(call.recompiles))}, at most {call.allowed} expected"
        for call in over
        for r in call.recompiles
    }
    causes = by_cause(r for call in over for r in call.recompiles)
    return {
        cause: finding_of(RULE, found, hints=[budgets[id(r)] for r in found])
        for cause, found in causes.items()
    }


def _counted(recompiles: int) -> str:
    return "1 recompile" if recompiles == 1 else f"{recompiles} recompiles"
