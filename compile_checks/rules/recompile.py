"""Recompiles beyond the budget of a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compile_checks._engine.findings import Finding, Recompile
from compile_checks._engine.places import place_at
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="recompile",
    summary="Dynamo compiled a frame again, more often than the call allows",
    cause="A guard failed: an argument that was compiled in as a constant has changed.",
    fix="The guard names the argument. Mark a size dynamic (`torch._dynamo.mark_dynamic`), pass a "
    "tensor instead of a number, keep an object's identity, or allow the recompile in a budget.",
)


def check(recompiles: Sequence[Recompile], allowed: int, what: str) -> Iterator[Finding]:
    """Yields a finding for each recompile of a call if there were more than allowed.

    Args:
        what: what the budget is for, such as `call 2`.
    """
    if len(recompiles) <= allowed:
        return
    hint = f"{what} had {_counted(len(recompiles))}, at most {allowed} expected"
    for r in recompiles:
        finding = RULE.finding(
            "; ".join(r.reasons), hint, guard=r.guard, argument=r.argument, category=r.category
        )
        yield place_at(r.file, r.line).of(finding)


def _counted(recompiles: int) -> str:
    return "1 recompile" if recompiles == 1 else f"{recompiles} recompiles"
