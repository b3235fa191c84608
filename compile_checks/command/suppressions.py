"""Comments in the code that ignore findings: `# compile-checks: ignore[graph-break] reason`."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from compile_checks._engine.findings import YOURS, Finding
from compile_checks._engine.places import owner_of
from compile_checks._engine.results import BASELINE, CaseResult, Known, Results
from compile_checks.rules import KINDS, graph_break, recompile, recompile_limit
from compile_checks.rules.suppression import finding

_COMMENT = re.compile(r"#\s*compile-checks:\s*ignore\b(?:\[([^\]]*)\])?\s*(.*)")
_TRACED = re.compile(r'# File: (.+?):(\d+) in |File "(.+?)", line (\d+), in ')
"""How the text of a graph names the lines that it comes from."""
_LAYOUT = (tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
"""Tokens that no statement begins with."""


@dataclass(frozen=True)
class Suppression:
    """A comment that ignores findings on its line, or in the statement that its line ends."""

    file: str
    line: int
    kinds: tuple[str, ...]
    reason: str

    def ignores(self, found: Finding) -> bool:
        """True if the comment ignores a finding. One without a reason ignores nothing.

        Recompiles become another kind at the recompile limit, which depends on the calls.
        """
        is_limit = found.kind == recompile_limit.RULE.id and recompile.RULE.id in self.kinds
        return bool(self.reason) and (found.kind in self.kinds or is_limit)

    def faults(self, used: Iterable[str]) -> Iterator[str]:
        """Yields what is wrong with the comment.

        Only a graph break surely is not there if a graph comes from the line. Other findings may
        depend on the calls, the mode and the budget.

        Args:
            used: the kinds that it ignored.
        """
        if not self.kinds:
            yield "the comment ignores nothing, because it names no kind in brackets"
        elif not self.reason:
            yield "the comment ignores nothing, because it gives no reason"
        for kind in self.kinds:
            if kind not in KINDS:
                yield f"the comment ignores an unknown kind of finding, {kind!r}"
            elif kind == graph_break.RULE.id and self.reason and kind not in used:
                yield f"the comment ignores {kind}, which is not found on this line"


def judge(results: Results) -> Results:
    """Moves the findings that comments ignore to the known ones, and adds faults of comments.

    Only comments on lines that a graph comes from, or with a finding, are judged: other lines may
    not have run.
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
    for file, lines in _compiled_lines(case).items():
        yield from (comment for line, comment in _comments(file).items() if line in lines)


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
        with tokenize.open(file) as opened:  # in the encoding that the file declares
            return opened.read()
    except (OSError, ValueError, SyntaxError):  # a cell of a notebook, generated code
        return ""


@cache
def _comments(file: str) -> Mapping[int, Suppression]:
    """Returns the comments of a file by the lines that they are about."""
    source = _source(file)
    if "compile-checks:" not in source:
        return {}
    found: dict[int, Suppression] = {}
    for lines, text in _tokens(source):
        if match := _COMMENT.search(text):
            kinds = tuple(kind.strip() for kind in (match[1] or "").split(",") if kind.strip())
            comment = Suppression(file, lines[-1], kinds, match[2].strip())
            for line in lines:  # a comment inside a statement is about its own line
                found.setdefault(line, comment)
    return found


def _tokens(source: str) -> Iterator[tuple[range, str]]:
    """Yields each comment with its line, or with all lines of the statement that it ends.

    Of a compound statement, such as `if`, these are the lines up to the colon.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    first: int | None = None  # the first line of the statement
    try:
        for token, following in pairwise(tokens):
            row = token.start[0]
            if token.type == tokenize.COMMENT:
                ends = following.type == tokenize.NEWLINE
                yield range(first or row if ends else row, row + 1), token.string
            elif token.type == tokenize.NEWLINE:
                first = None
            elif first is None and token.type not in _LAYOUT:
                first = row
    except (tokenize.TokenError, SyntaxError):
        return
