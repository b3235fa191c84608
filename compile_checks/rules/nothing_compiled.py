"""Audits in which Dynamo compiled no graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compile_checks._engine.findings import Finding, GraphBreak
from compile_checks.rules._rule import Rule
from compile_checks.rules.graph_break import REJECTED

RULE = Rule(
    id="nothing-compiled",
    summary="no graph was compiled",
    cause="Dynamo compiled no graph: the code computes no tensor, its frame was skipped, or the "
    "compiler is turned off.",
    fix="Look for `torch.compiler.disable`, a `force_eager` stance, or a graph break in a loop, "
    "which makes Dynamo skip the frame. In torch 2.13 and earlier, `module.compile()` has no "
    "effect on a module whose `forward` is PyTorch's, such as `nn.Sequential`: call "
    "`torch.compile(module)`.",
)


def check(graphs: int, breaks: Iterable[GraphBreak] = ()) -> Iterator[Finding]:
    """Yields a finding if no graph was compiled, unless a break says that the backend refused."""
    if graphs == 0 and not any(b.reason.startswith(REJECTED) for b in breaks):
        yield RULE.finding("no graph was compiled")
