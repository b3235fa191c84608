"""Audits in which Dynamo compiled no graph."""

from __future__ import annotations

from collections.abc import Iterator

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="nothing-compiled",
    summary="no graph was compiled",
    cause="Dynamo compiled no graph: the code computes no tensor, its frame was skipped, or the "
    "compiler is turned off.",
    fix="Look for `torch.compiler.disable`, a `force_eager` stance, or a graph break in a loop, "
    "which makes Dynamo skip the frame.",
)


def check(graphs: int) -> Iterator[Finding]:
    """Yields a finding if no graph was compiled."""
    if graphs == 0:
        yield RULE.finding("no graph was compiled")
