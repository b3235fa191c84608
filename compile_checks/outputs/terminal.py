"""The table for the terminal: 80 columns, with color if requested."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace

from compile_checks._engine.costs import Frame
from compile_checks._engine.findings import Finding, grouped
from compile_checks._engine.results import CaseResult, Known, Results, portable_path
from compile_checks.outputs.text import details, duration, plural, printable, total

WIDTH = 80
_COLUMNS = "graphs breaks recompiles result"
_NAME_WIDTH = WIDTH - len(_COLUMNS) - 1
_SHOWN_WHOLE = ("error", "graph-snapshot", "mismatch")
"""Kinds whose reasons have details that this project wrote, not PyTorch."""
_RED, _GREEN, _YELLOW, _BOLD, _DIM = "31", "32", "33", "1", "2"


class Table:
    """Renders results as a table.

    Lines have at most 80 columns, apart from long words, lines of code and details of reasons.
    """

    def __init__(self, *, color: bool = False, frames: bool = False) -> None:
        self._color, self._frames = color, frames
        self._explained: set[Finding] = set()

    def render(self, results: Results) -> str:
        """Returns the table."""
        lines = [self._paint(f"{'case':{_NAME_WIDTH}} {_COLUMNS}", _BOLD)]
        for case in results.cases:
            lines += self._case(case)
        lines += ["", self._paint(total(results), _GREEN if results.ok else _RED)]
        return "\n".join(lines) + "\n"

    def _case(self, case: CaseResult) -> Iterator[str]:
        report, name = case.report, printable(case.name)
        if len(name) > _NAME_WIDTH:
            yield from textwrap.wrap(name, WIDTH, break_on_hyphens=False, subsequent_indent="  ")
            name = ""
        counts = f"{report.graphs:6} {len(report.graph_breaks):6} {len(report.recompiles):10}"
        yield f"{name:{_NAME_WIDTH}} {counts} {self._verdict(case)}"
        for cause, consequences in grouped(report.findings):
            yield from self._finding(cause)
            if consequences:
                yield f"    and {plural(len(consequences), 'consequence')}:"
            for finding in consequences:
                yield from _wrapped(str(finding), indent=6)
        for known in case.known:
            yield from self._known(known)
        if report.times is not None:
            yield from _wrapped(f"time: {duration(report.times)}", indent=2)
        for frame in report.frames if self._frames else ():
            yield from _wrapped(_described(frame), indent=2)
        for note in report.notes:
            yield from (self._paint(line, _DIM) for line in _wrapped(f"note: {note}", indent=2))

    def _verdict(self, case: CaseResult) -> str:
        if not case.report.ok:
            return self._paint("FAIL", _RED)
        return self._paint("known", _YELLOW) if case.known else self._paint("ok", _GREEN)

    def _finding(self, finding: Finding) -> Iterator[str]:
        for line in _wrapped(str(finding), indent=2):
            yield self._paint(line, _BOLD)
        plain = replace(finding, case="", count=1)
        if plain in self._explained:  # already shown for another case or mode
            return
        self._explained.add(plain)
        if finding.source:
            yield self._paint(printable(f"    > {finding.source.strip()}"), _YELLOW)
        if finding.kind in _SHOWN_WHOLE:
            for line in finding.reason.splitlines()[1:]:
                yield printable(f"    {line}")
        for name, text in details(finding):
            yield from _wrapped(f"{name}: {text}", indent=4)

    def _known(self, known: Known) -> Iterator[str]:
        text = f"{known.until}: {known.finding} [{known.reason}]"
        for line in _wrapped(text, indent=2):
            yield self._paint(line, _DIM)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def _described(frame: Frame) -> str:
    place = f"{portable_path(frame.file)}:{frame.line}"
    counts = ", ".join(
        (
            f"compiled {plural(frame.entries, 'time')}",
            plural(frame.ops, "op"),
            plural(frame.guards, "guard"),
            f"{frame.seconds:.2f} s",
        )
    )
    return f"frame: {place}: {frame.name}: {counts}"


def render(results: Results) -> str:
    """Returns the table without color."""
    return Table().render(results)


def _wrapped(text: str, *, indent: int) -> list[str]:
    """Wraps text to the width of the table. Keeps paths whole, so that terminals can link them."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
