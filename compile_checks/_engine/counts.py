"""Reads PyTorch's own counters of graphs and graph breaks."""

from __future__ import annotations

from typing import Any

from compile_checks import _compat
from compile_checks._engine.places import traced_line

# The reason that Dynamo gives when it steps back to the last statement it can resume from.
_STEPPED_BACK = "step_unsupported"


class Counts:
    """Counts of Dynamo's counters since this object was created. None if a counter is missing."""

    def __init__(self) -> None:
        self._graphs_before = self._total_graphs()
        self._breaks_before = self._total_breaks()
        self._reasons_before = len(self._all_reasons() or ())

    @property
    def graphs(self) -> int | None:
        """The number of graphs."""
        total = self._total_graphs()
        return None if total is None or self._graphs_before is None else total - self._graphs_before

    @property
    def breaks(self) -> int | None:
        """The number of graph breaks."""
        total = self._total_breaks()
        return None if total is None or self._breaks_before is None else total - self._breaks_before

    @property
    def reasons(self) -> list[tuple[str, int]] | None:
        """The traced lines of breaks in `graph_break_reasons`."""
        if self._all_reasons() is None:
            return None
        return [traced_line(r.user_stack) for r in self._new() if r.reason != _STEPPED_BACK]

    @property
    def stepped_back(self) -> dict[tuple[str, str], tuple[str, int]]:
        """The frames, by file and name, in which Dynamo stepped back to a point before the break.

        `graph_break_reasons` has the first line of the statement that Dynamo stepped back to. The
        break may be further down in that statement, or in a property that the statement reads.
        """
        frames = (r.user_stack[-1] for r in self._new() if r.reason == _STEPPED_BACK)
        return {(f.filename, f.name): (f.filename, f.lineno or 0) for f in frames}

    def _new(self) -> list[Any]:
        return (self._all_reasons() or [])[self._reasons_before :]

    @staticmethod
    def _total_graphs() -> int | None:
        counters = _compat.COUNTERS.get()
        return None if counters is None else counters["stats"]["unique_graphs"]

    @staticmethod
    def _total_breaks() -> int | None:
        counters = _compat.COUNTERS.get()
        return None if counters is None else counters["graph_break"].total()

    @staticmethod
    def _all_reasons() -> list[Any] | None:
        reasons: list[Any] | None = _compat.GRAPH_BREAK_REASONS.get()
        return reasons
