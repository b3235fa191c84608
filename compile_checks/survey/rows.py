"""The results of a survey, kept in a file so that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from compile_checks._engine.findings import headline
from compile_checks._engine.results import CaseResult

ABSENT: Final = "the architecture has no such pass"
"""Why a pass was not surveyed. Tables do not list it."""


@dataclass(frozen=True)
class Row:
    """One pass of one architecture."""

    name: str
    """The library and the architecture."""
    run: str
    """The pass: `"forward"`, `"training"` or `"decode"`."""
    graphs: int = 0
    breaks: int = 0
    recompiles: int = 0
    """Those that the calls do not allow."""
    seconds: float = 0.0
    problem: str = ""
    """The first finding, with its place."""
    skipped: str = ""
    """Why the pass was not surveyed."""
    asked: str = ""
    """All passes that were to be audited, separated by spaces. Not all have rows: the architecture
    may lack some, or its process crashed or took too long.
    """

    @property
    def done(self) -> set[tuple[str, str]]:
        """The names and passes that need not be audited again."""
        return {(self.name, run) for run in (self.run, *self.asked.split())}


def row_of(result: CaseResult) -> Row:
    """Returns the row of a result."""
    name, _, run = result.name.partition(", ")
    run = run or "all"  # the process crashed or took too long
    report = result.report
    if not report.graphs and not report.findings and report.notes:
        return Row(name, run, skipped=report.notes[0].removeprefix("not surveyed: "))
    problem = ""
    for finding in report.findings[:1]:
        file, line = result.place(finding)
        place = f"{Path(file).name}:{line}: " if file else ""
        problem = f"{place}{finding.kind}: {headline(finding.reason)}"
    recompiles = sum(
        finding.count
        for finding in report.findings
        if finding.kind in ("recompile", "recompile-limit")
    )
    seconds = round(result.seconds, 1)
    breaks = len(report.graph_breaks)
    return Row(name, run, report.graphs, breaks, recompiles, seconds, problem)


_START: Final = '{"name": '
"""How each line of a file of results begins."""


def _parsed(text: str) -> list[Row]:
    return [Row(**json.loads(line)) for line in text.splitlines()]


class Store:
    """A file with one row of JSON per line."""

    def __init__(self, file: Path) -> None:
        """Opens a file, which need not exist. Removes a last line that was cut off.

        Raises:
            ValueError: if the file contains something else. It is not changed.
        """
        self._file = file
        if file.exists():
            whole, newline, cut = file.read_text(encoding="utf-8").rpartition("\n")
            try:
                _parsed(whole)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file} is not a file of results: {error}") from None
            if not cut.startswith(_START[: len(cut)]):
                raise ValueError(f"{file} is not a file of results: it ends with {cut[:40]!r}")
            if cut:
                file.write_text(whole + newline, encoding="utf-8")

    def rows(self) -> list[Row]:
        """Returns the rows."""
        if not self._file.exists():
            return []
        return _parsed(self._file.read_text(encoding="utf-8"))

    def add(self, rows: Iterable[Row]) -> None:
        """Appends rows."""
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
