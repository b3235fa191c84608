"""Watches everything that is compiled within a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from compile_checks import _compat
from compile_checks._engine import judge
from compile_checks._engine.costs import UNLIMITED, Limits
from compile_checks._engine.findings import AuditReport
from compile_checks._engine.ranking import ranked
from compile_checks._engine.recording import record
from compile_checks._engine.trace import Trace
from compile_checks.rules import nothing_compiled

_NOTHING: Final = (
    "what was compiled earlier is not compiled again unless torch.compiler.reset() is called "
    "first, and other processes are not watched"
)


class Watch:
    """What Dynamo has done since a `watch()` block began."""

    def __init__(self, trace: Trace, max_graphs: int | None, limits: Limits) -> None:
        self._trace = trace
        self._max_graphs, self._limits = max_graphs, limits

    def report(self) -> AuditReport:
        """Returns a report on everything recorded so far."""
        compilations = self._trace.compilations
        allowed = [judge.Allowance(compilations)]
        report = judge.report(compilations, allowed, self._max_graphs, limits=self._limits)
        findings = tuple(
            replace(finding, hint=_NOTHING) if finding.kind == nothing_compiled.RULE.id else finding
            for finding in report.findings
        )
        report = replace(report, findings=findings, notes=_compat.notes())
        return ranked(report, self._max_graphs)

    def __repr__(self) -> str:
        """Returns what `report` says."""
        return f"<Watch: {self.report()!r}>"


@contextmanager
def watch(*, max_graphs: int | None = None, limits: Limits = UNLIMITED) -> Iterator[Watch]:
    """Records what Dynamo does within a block.

    Code that was compiled before the block is not compiled again, such as when a cell of a notebook
    runs a second time. To watch it as if it were new, call `torch.compiler.reset()` first.

    Args:
        max_graphs: the number of graphs that the block may compile, recompiles included. `None`
            sets no limit on graphs, but allows no recompiles.
        limits: as in `audit_calls`.

    >>> import torch
    >>> with watch() as watched:
    ...     _ = torch.compile(torch.nn.ReLU(), backend="eager")(torch.ones(3))
    >>> watched.report().ok, watched.report().graphs
    (True, 1)
    """
    with record() as trace:
        yield Watch(trace, max_graphs, limits)
