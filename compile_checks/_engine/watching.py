"""Watches whatever compiles within a block, whoever calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compile_checks._engine import judge
from compile_checks._engine.findings import AuditReport
from compile_checks._engine.recording import record
from compile_checks._engine.trace import Trace


class Watch:
    """What Dynamo did since a `watch()` block began."""

    def __init__(self, trace: Trace, max_graphs: int | None) -> None:
        self._trace = trace
        self._max_graphs = max_graphs

    def report(self) -> AuditReport:
        """Judges what was recorded so far."""
        compilations = self._trace.compilations
        return judge.report(compilations, [judge.Allowance(compilations)], self._max_graphs)


@contextmanager
def watch(*, max_graphs: int | None = None) -> Iterator[Watch]:
    """Records what Dynamo does within a block.

    Args:
        max_graphs: how many graphs the block may cost, recompiles included. `None`: as many as its
            code needs, but no recompile.

    >>> import torch
    >>> with watch() as watched:
    ...     _ = torch.compile(torch.nn.ReLU(), backend="eager")(torch.ones(3))
    >>> watched.report().ok, watched.report().graphs
    (True, 1)
    """
    with record() as trace:
        yield Watch(trace, max_graphs)
