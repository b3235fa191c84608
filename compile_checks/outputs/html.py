"""A self-contained HTML file: each break in its source, with the graphs around it."""

from __future__ import annotations

import linecache
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from compile_checks._engine.findings import AuditReport, CapturedGraph, Finding, grouped, headline
from compile_checks._engine.results import CaseResult, Results, portable_path
from compile_checks.outputs.markup import Markup, folded, join, tag
from compile_checks.outputs.text import details, duration, plural, total
from compile_checks.rules import RULES, graph_break

_CONTEXT = 8
"""The number of lines shown above and below a finding."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Keeps the browser from loading anything, whatever the report contains."""


def render(results: Results) -> str:
    """Returns the results as one HTML file."""
    page = _Page(results)
    head = join(
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("title", f"Audit: {total(results)}"),
        tag("style", Markup(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))),
    )
    body = tag("body", page.header(), page.overview(), *page.cases(), *page.sources())
    return f'<!doctype html>\n<html lang="en">\n{tag("head", head)}\n{body}\n</html>\n'


class _Page:
    def __init__(self, results: Results) -> None:
        self._results = results
        self._marks: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for case in results.cases:
            for finding in (*case.report.findings, *(known.finding for known in case.known)):
                if finding.file and finding.line:
                    kinds = self._marks[finding.file][finding.line]
                    kinds += [finding.kind] * (finding.kind not in kinds)
        self._files = {file: f"source-{n}" for n, file in enumerate(self._marks, 1)}

    def header(self) -> Markup:
        verdict = "ok" if self._results.ok else "fail"
        summary = f"{total(self._results)}, torch {self._results.torch}"
        return tag("header", tag("h1", "Audit of torch.compile"), tag("p", summary, class_=verdict))

    def overview(self) -> Markup:
        heads = [tag("th", name, class_="number") for name in ("graphs", "breaks", "recompiles")]
        rows = [tag("tr", tag("th", "case"), *heads, tag("th", "result"))]
        for number, case in enumerate(self._results.cases, 1):
            report = case.report
            verdict = "fail" if not report.ok else "known" if case.known else "ok"
            counts = (report.graphs, len(report.graph_breaks), len(report.recompiles))
            link = tag("a", case.name, href=f"#case-{number}")
            cells = [tag("td", str(count), class_="number") for count in counts]
            rows.append(tag("tr", tag("td", link), *cells, tag("td", verdict, class_=verdict)))
        return tag("table", *rows)

    def cases(self) -> Iterator[Markup]:
        for number, case in enumerate(self._results.cases, 1):
            report = case.report
            findings = [self._group(case, *group) for group in grouped(report.findings)]
            known = [
                folded(f"{k.until}: {k.reason}", self._finding(case, k.finding)) for k in case.known
            ]
            notes = (
                [tag("p", f"time: {duration(report.times)}")] if report.times is not None else []
            )
            notes += [tag("p", f"note: {note}") for note in report.notes]
            graphs = _graphs("all captured graphs", report.captured_graphs)
            shown = (tag("h2", case.name), *findings, *known, *notes, graphs)
            yield tag("section", *shown, id=f"case-{number}")

    def _group(self, case: CaseResult, cause: Finding, consequences: list[Finding]) -> Markup:
        if not consequences:
            return self._finding(case, cause)
        shown = [self._finding(case, finding) for finding in consequences]
        title = f"and {plural(len(consequences), 'consequence')}"
        return self._finding(case, cause, folded(title, *shown))

    def _finding(self, case: CaseResult, finding: Finding, *more: Markup) -> Markup:
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        kind = tag("span", finding.kind, class_="kind")
        rest = finding.reason.partition("\n")[2].strip("\n")
        return tag(
            "article",
            tag("h3", kind, Markup(" "), f"{headline(finding.reason)}{times}"),
            self._excerpt(finding),
            tag("p", RULES[finding.kind].fix),
            _details(finding),
            *_surroundings(case.report, finding),
            folded("full message from PyTorch", tag("pre", rest)) if rest else Markup(),
            *more,
        )

    def _excerpt(self, finding: Finding) -> Markup:
        """Returns the lines around a finding. The whole file is further down the page."""
        if not finding.file:
            return Markup()
        place = f"{portable_path(finding.file)}:{finding.line}"
        lines = linecache.getlines(finding.file)
        if not 0 < finding.line <= len(lines):  # code from `exec`, for example
            return join(tag("p", place), tag("pre", finding.source))
        first, last = max(finding.line - _CONTEXT, 1), min(finding.line + _CONTEXT, len(lines))
        link = tag("a", place, href=f"#{self._files[finding.file]}-{finding.line}")
        marks = self._marks[finding.file]
        return join(tag("p", link), _listing(lines, range(first, last + 1), marks))

    def sources(self) -> Iterator[Markup]:
        """Yields the full source of every file that has a finding."""
        for file, name in self._files.items():
            if lines := linecache.getlines(file):
                listing = _listing(lines, range(1, len(lines) + 1), self._marks[file], name)
                yield tag("section", tag("h2", portable_path(file)), listing, id=name)


def _listing(
    lines: list[str], numbers: range, marks: Mapping[int, list[str]], name: str = ""
) -> Markup:
    """Returns numbered lines with marked ones highlighted. With a name, each line has an anchor."""
    rows = []
    for number in numbers:
        anchor = {"id": f"{name}-{number}"} if name else {}
        if number in marks:
            anchor |= {"class_": "hit", "title": ", ".join(marks[number])}
        text = lines[number - 1].rstrip("\n")
        rows.append(tag("span", tag("i", f"{number:5} "), f"{text}\n", **anchor))
    return tag("pre", *rows, class_="source")


def _details(finding: Finding) -> Markup:
    items = []
    for name, text in details(finding):
        shown = tag("a", text, href=text) if name == "see" else text
        items.append(join(tag("dt", name), tag("dd", shown)))
    return tag("dl", *items) if items else Markup()


def _surroundings(report: AuditReport, finding: Finding) -> Iterator[Markup]:
    """Yields the graphs before and after a graph break."""
    if finding.kind != graph_break.RULE.id:
        return
    ids = [
        b.compile_id
        for b in report.graph_breaks
        if graph_break.place(b) == graph_break.place(finding)
    ]
    for compile_id in dict.fromkeys(ids):
        before, after = _neighbors(report.captured_graphs, compile_id)
        yield _graphs("graph before the break", before)
        yield _graphs("graph after the break", after)


def _neighbors(
    graphs: tuple[CapturedGraph, ...], compile_id: str
) -> tuple[tuple[CapturedGraph, ...], tuple[CapturedGraph, ...]]:
    """Returns the graph of a compilation, if it has one, and the graph after it."""
    ids = [graph.compile_id for graph in graphs]
    if compile_id in ids:
        at = ids.index(compile_id)
        return graphs[at : at + 1], graphs[at + 1 : at + 2]
    later = [graph for graph in graphs if _numbers(graph.compile_id) > _numbers(compile_id)]
    return (), tuple(later[:1])


def _numbers(compile_id: str) -> list[int]:
    return [int(part) for part in compile_id.split("/") if part.isdigit()]


def _graphs(title: str, graphs: Iterable[CapturedGraph]) -> Markup:
    shown = []
    for graph in graphs:
        ops = plural(sum(count for _, count in graph.ops), "op")
        where = f"{portable_path(graph.file)}:{graph.line}"
        caption = f"graph {graph.compile_id} of {graph.frame} at {where}, {ops}"
        shown.append(tag("figure", tag("figcaption", caption), tag("pre", graph.text)))
    return folded(title, *shown) if shown else Markup()
