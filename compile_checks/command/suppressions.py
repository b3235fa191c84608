"""Comments in the code that ignore findings: `# compile-checks: ignore[graph-break] reason`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from compile_checks._engine.findings import YOURS, Finding
from compile_checks._engine.places import owner_of
from compile_checks._engine.results import BASELINE, CaseResult, Known, Results
from compile_checks.rules import KINDS
from compile_checks.rules.suppression import finding

_COMMENT = re.compile(r"#\s*compile-checks:\s*ignore\[([^\]]*)\]\s*(.*)")
_TRACED = re.compile(r'# File: (.+?):(\d+) in |File "(.+?)", line (\d+), in ')
"""How the text of a graph names the lines that it comes from."""
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Suppression:
    """A comment that ignores findings on its line."""

    file: str
    line: int
    kinds: tuple[str, ...]
    reason: str

    def ignores(self, found: Finding) -> bool:
        """True if the comment ignores a finding. One without a reason ignores nothing."""
        return bool(self.reason) and found.kind in self.kinds

    def faults(self, used: Iterable[str]) -> Iterator[str]:
        """Yields what is wrong with the comment.

        Args:
            used: the kinds that it ignored.
        """
        if not self.reason:
            yield "the comment ignores nothing, because it gives no reason"
        for kind in self.kinds:
            if kind not in KINDS:
                yield f"the comment ignores an unknown kind of finding, {kind!r}"
            elif self.reason and kind not in used:
                yield f"the comment ignores {kind}, which is not found on this line"


def judge(results: Results) -> Results:
    """Moves the findings that comments ignore to the known ones, and adds faults of comments.

    Only comments in functions that a case compiled, or where it found something, are judged.
    """
    used: dict[Suppression, set[str]] = {}
    cases = [_ignored(case, used) for case in results.cases]
    judged: set[Suppression] = set()
    return replace(results, cases=tuple(_with_faults(case, used, judged) for case in cases))


def _ignored(case: CaseResult, used: dict[Suppression, set[str]]) -> CaseResult:
    left, known = [], []
    for found in case.report.findings:
        comment = _comments(found.file).get(found.line) if found.file else None
        if comment is not None and comment.ignores(found):
            used.setdefault(comment, set()).add(found.kind)
            known.append(Known(found, comment.reason, ""))
        else:
            left.append(found)
    report = replace(case.report, findings=tuple(left))
    return replace(case, report=report, known=(*case.known, *known))


def _with_faults(
    case: CaseResult, used: Mapping[Suppression, set[str]], judged: set[Suppression]
) -> CaseResult:
    if case.name == BASELINE:
        return case
    faults: list[Finding] = []
    for comment in _compiled_comments(case):
        if comment not in judged:
            judged.add(comment)
            texts = comment.faults(used.get(comment, ()))
            faults += [finding(text, comment.file, comment.line) for text in texts]
    report = replace(case.report, findings=(*case.report.findings, *faults))
    return replace(case, report=report)


def _compiled_comments(case: CaseResult) -> Iterator[Suppression]:
    """Yields the comments in functions that a case compiled, and on lines with findings."""
    for file, lines in _compiled_lines(case).items():
        functions = {_function(file, line) for line in lines}
        for comment in _comments(file).values():
            if comment.line in lines or _function(file, comment.line) in functions - {None}:
                yield comment


def _compiled_lines(case: CaseResult) -> Mapping[str, set[int]]:
    """Returns your lines that graphs come from or findings are at, by file."""
    findings = (*case.report.findings, *(known.finding for known in case.known))
    places = [(found.file, found.line) for found in findings]
    for graph in case.report.captured_graphs:
        named = _TRACED.findall(graph.text)
        places += [(file or deeper, int(line or below)) for file, line, deeper, below in named]
        places.append((graph.file, graph.line))
    lines: dict[str, set[int]] = {}
    for file, line in places:
        if file and owner_of(file) == YOURS:
            lines.setdefault(file, set()).add(line)
    return lines


@cache
def _source(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):  # a cell of a notebook, generated code
        return ""


@cache
def _comments(file: str) -> Mapping[int, Suppression]:
    """Returns the comments of a file by line."""
    source = _source(file)
    if "compile-checks:" not in source:
        return {}
    found = {}
    for number, text in _tokens(source):
        if match := _COMMENT.match(text):
            kinds = tuple(kind.strip() for kind in match[1].split(",") if kind.strip())
            found[number] = Suppression(file, number, kinds, match[2].strip())
    return found


def _tokens(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line and text of each comment."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return


@cache
def _ranges(file: str) -> Sequence[tuple[int, int]]:
    """Returns the first and last line of each function of a file, decorators included."""
    try:
        tree = ast.parse(_source(file))
    except (SyntaxError, ValueError):
        return ()
    ranges = []
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            first = min([node.lineno, *[d.lineno for d in getattr(node, "decorator_list", ())]])
            ranges.append((first, node.end_lineno or node.lineno))
    return ranges


def _function(file: str, line: int) -> tuple[int, int] | None:
    """Returns the range of the innermost function that contains a line."""
    around = [(first, last) for first, last in _ranges(file) if first <= line <= last]
    return max(around, default=None)
