"""Markdown for GitHub: a table of the cases, then every finding with its source."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from compile_checks._engine.findings import Finding, grouped, headline
from compile_checks._engine.results import CaseResult, Results
from compile_checks.outputs.text import details, duration, plural, printable, total

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$])")


def render(results: Results) -> str:
    """Returns the results as Markdown."""
    lines = ["# Audit of torch.compile", ""]
    lines += [f"{'ok' if results.ok else '**FAIL**'}: {total(results)} (torch {results.torch})", ""]
    lines += ["| case | graphs | breaks | recompiles | result |", "| --- | --: | --: | --: | --- |"]
    lines += map(_row, results.cases)
    for case in results.cases:
        lines += _findings(case)
    return "\n".join(lines) + "\n"


def _row(case: CaseResult) -> str:
    report = case.report
    verdict = "**FAIL**" if not report.ok else "known" if case.known else "ok"
    counts = (report.graphs, len(report.graph_breaks), len(report.recompiles), verdict)
    return f"| {' | '.join([_escaped(case.name), *map(str, counts)])} |"


def _findings(case: CaseResult) -> Iterator[str]:
    if not case.report.ok or case.known or case.report.times or case.report.notes:
        yield from ("", f"## {_escaped(case.name)}")
    for cause, consequences in grouped(case.report.findings):
        yield from _finding(case, cause)
        if consequences:
            yield from ("", f"and {plural(len(consequences), 'consequence')}:", "")
        yield from (f"- {_escaped(str(finding))}" for finding in consequences)
    for known in case.known:
        reason = _escaped(f"{known.finding} ({known.reason})")
        yield from ("", f"- {known.until}: {reason}")
    if case.report.times is not None:
        yield from ("", f"- time: {duration(case.report.times)}")
    for note in case.report.notes:
        yield from ("", f"- note: {_escaped(note)}")


def _finding(case: CaseResult, finding: Finding) -> Iterator[str]:
    file, line = case.place(finding)
    place = f" at {_code(f'{file}:{line}')}" if file else ""
    times = f", {finding.count} times" if finding.count > 1 else ""
    yield from ("", f"### {finding.kind}: {_escaped(headline(finding.reason))}")
    if place or times:
        yield from ("", f"{finding.kind}{place}{times}")
    if finding.source:
        fence = _fence(finding.source)
        yield from ("", f"{fence}python", printable(finding.source.strip()), fence)
    named = details(finding)
    if named:
        yield ""
    for name, text in named:
        yield f"- {name}: {_detail(name, text)}"


def _detail(name: str, text: str) -> str:
    if name == "see":
        return text  # GitHub turns a bare address into a link
    return _code(text) if name == "guard" else _escaped(text)


def _escaped(text: str) -> str:
    """Escapes Markdown, HTML and mentions. The result is also safe in a table."""
    plain = html.escape(" ".join(printable(text).split()), quote=False)
    return _SPECIAL.sub(r"\\\1", plain)


def _code(text: str) -> str:
    """Returns text as inline code, even if it contains backticks."""
    plain = " ".join(printable(text).split())
    ticks = "`" * (_longest_run(plain) + 1)
    padding = " " if "`" in plain else ""
    return f"{ticks}{padding}{plain}{padding}{ticks}"


def _fence(text: str) -> str:
    return "`" * max(3, _longest_run(text) + 1)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
