"""Graphs that Inductor runs without CUDA graphs. Checked by the gate `cudagraph`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.trace import Compilation

RULE = Rule(
    id="cudagraph-skip",
    summary="Inductor ran a compiled graph without CUDA graphs",
    cause="Inductor could not use CUDA graphs, for example because of a CPU tensor, a mutated "
    "input or a dynamic shape.",
    fix="Fix the problem named in the reason, or compile without `mode='reduce-overhead'`.",
)


@contextmanager
def check(found: list[Finding], compilations: Iterable[Compilation]) -> Iterator[None]:
    """Adds a finding for each reason for which Inductor skips CUDA graphs within a block.

    Inductor reports a reason to the metrics of the compilation in progress. If the reason arises at
    run time, no compilation is in progress and Inductor drops it.

    Args:
        found: the list to add the findings to.
        compilations: the compilations of the block. They provide the places of the findings.
    """
    from compile_checks import _compat

    reasons: Counter[tuple[str, str]] = Counter()
    with _compat.cudagraph_metrics(partial(_Metrics, reasons)):
        try:
            yield
        finally:
            by_id = {c.compile_id: c for c in compilations}
            for (reason, compile_id), count in reasons.items():
                c = by_id.get(compile_id)
                file, line = (c.file, c.line) if c else ("", 0)
                found.append(RULE.finding(reason, file=file, line=line, count=count))


class _Metrics:
    """Metrics that record every reason. To Inductor they always appear to be in progress."""

    def __init__(self, reasons: Counter[tuple[str, str]], actual: Any) -> None:
        self._reasons, self._actual = reasons, actual

    def in_progress(self) -> bool:
        return True

    def set(self, metric: str, value: Any, overwrite: bool = False) -> None:
        from compile_checks import _compat

        current = _compat.current_compile_id()
        compile_id = f"{current.frame_id}/{current.frame_compile_id}" if current else ""
        self._reasons[value, compile_id] += 1
        if self._actual.in_progress():
            self._actual.set(metric, value, overwrite=overwrite)
