"""Frames that run in eager mode because Dynamo hit the recompile limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import place_at
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.trace import Compilation

RULE = Rule(
    id="recompile-limit",
    summary="Dynamo fell back to eager mode for a frame after too many recompiles",
    cause="Dynamo recompiled a frame so often that it gave up. The frame now runs in eager mode.",
    fix="Remove the cause of the recompiles. Raising `torch._dynamo.config.recompile_limit` only "
    "hides it.",
)
_HINT = "make what changes dynamic, or raise torch._dynamo.config.recompile_limit"


def check(compilation: Compilation, parameters: Sequence[str]) -> Iterator[Finding]:
    """Yields a finding if Dynamo rejected a frame before it started to compile it.

    Args:
        parameters: the names of the parameters of the audited function.
    """
    c = compilation
    if c.started or c.failure is None:
        return
    finding = RULE.finding(f"fell back to eager mode: {c.failure}", _HINT)
    if r := c.as_recompile(parameters):
        reason = f"fell back to eager mode: {'; '.join(r.reasons)}"
        finding = RULE.finding(
            reason, _HINT, guard=r.guard, argument=r.argument, category=r.category
        )
    yield place_at(c.file, c.line).of(finding)
