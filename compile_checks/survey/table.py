"""The table of a survey, as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from compile_checks.outputs.text import plural
from compile_checks.survey.rows import ABSENT, Row

_HEAD = """\
| architecture | pass | graphs | breaks | recompiles | seconds | first finding |
| --- | --- | ---: | ---: | ---: | ---: | --- |
"""


def render(rows: Sequence[Row], versions: str) -> str:
    """Returns sums, a row for each pass with a finding, and the names of all others."""
    rows = [row for row in rows if row.skipped != ABSENT]
    surveyed = [row for row in rows if not row.skipped]
    parts = [_sums(surveyed, versions)]
    if found := [row for row in surveyed if row.problem]:
        parts.append(_HEAD + "".join(map(_line, found)))
    if clean := [f"{row.name} ({row.run})" for row in surveyed if not row.problem]:
        parts.append(f"Without a finding: {', '.join(clean)}.\n")
    if skipped := {row.name: row.skipped for row in reversed(rows) if row.skipped}:
        lines = "".join(f"- {name}: {_short(why)}\n" for name, why in reversed(skipped.items()))
        parts.append(f"Not surveyed, because they need other inputs or do not fit:\n\n{lines}")
    return "\n".join(parts)


def _sums(rows: Sequence[Row], versions: str) -> str:
    lines = [versions, ""]
    for run in dict.fromkeys(row.run for row in rows):
        of_pass = [row for row in rows if row.run == run]
        if run == "all":
            lines.append(f"- {plural(len(of_pass), 'architecture')} crashed or took too long")
            continue
        broken = sum(row.breaks > 0 for row in of_pass)
        again = sum(row.recompiles > 0 for row in of_pass)
        clean = sum(not row.problem for row in of_pass)
        lines.append(
            f"- {run}: {plural(len(of_pass), 'architecture')}, {clean} without a finding, "
            f"{broken} with graph breaks, {again} with recompiles"
        )
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    return textwrap.shorten(text, 100, placeholder=" ...")


def _line(row: Row) -> str:
    problem = _short(row.problem).replace("|", "\\|")
    numbers = f"{row.graphs} | {row.breaks} | {row.recompiles} | {row.seconds}"
    return f"| {row.name} | {row.run} | {numbers} | {problem} |\n"
