"""Frames that Dynamo gave up on without reporting a graph break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import place_at
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.trace import Compilation

RULE = Rule(
    id="fallback",
    summary="Dynamo gave up on a frame, which ran in eager mode",
    cause="A frame contains code that Dynamo can neither compile nor break the graph at, so the "
    "whole frame runs in eager mode.",
    fix="Move the code named in the reason out of the compiled function.",
)


def check(compilation: Compilation) -> Iterator[Finding]:
    """Yields a finding if a compilation failed although it had no graph break."""
    c = compilation
    if c.started and c.failure is not None and not c.breaks:
        yield place_at(c.file, c.line).of(RULE.finding(c.failure))
