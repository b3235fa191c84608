"""Frames that run in eager mode because Dynamo hit the recompile limit."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compile_checks._engine.findings import Finding, Recompile
from compile_checks._engine.places import place_at
from compile_checks.rules._causes import by_cause, finding_of
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
_PREFIX = "fell back to eager mode: "


def check(
    compilations: Iterable[Compilation],
    parameters: Sequence[str],
    recompiles: Mapping[Hashable, Finding],
) -> dict[Hashable, Finding]:
    """Returns a finding for each cause for which Dynamo rejected a frame before it started.

    Args:
        parameters: the names of the parameters of the audited function.
        recompiles: the findings for recompiles by cause. That of the same cause is counted here.
    """
    findings: dict[Hashable, Finding] = {}
    rejected: list[Recompile] = []
    for c in compilations:
        if c.started or c.failure is None:
            continue
        if recompiled := c.as_recompile(parameters):
            rejected.append(recompiled)
        else:
            finding = RULE.finding(_PREFIX + c.failure)
            findings[c.file, c.line, c.failure] = place_at(c.file, c.line).of(finding)
    for cause, found in by_cause(rejected).items():
        finding = finding_of(RULE, found, _PREFIX)
        if before := recompiles.get(cause):
            count = before.count + finding.count
            finding = replace(before, kind=RULE.id, reason=_PREFIX + before.reason, count=count)
        findings[cause] = finding
    return findings
