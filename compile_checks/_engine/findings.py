"""The values that an audit returns: frozen dataclasses that convert to and from JSON.

This module imports no other module of the package, except `costs`.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from compile_checks._engine.costs import Frame, Times

Kind = str
"""The id of a rule. `compile_checks.rules.RULES` is the table of all rules."""

Category = Literal[
    "",
    "size",
    "stride",
    "dtype",
    "requires_grad",
    "int",
    "float",
    "object identity",
    "global state",
    "other",
]
"""What changed when a guard failed."""

CATEGORIES: Final[tuple[str, ...]] = get_args(Category)

YOURS: Final = "yours"
"""The owner of code outside torch, the standard library and installed packages."""


@dataclass(frozen=True)
class Mode:
    """The settings used to compile and call a function."""

    fullgraph: bool = False
    dynamic: bool | None = None
    backward: bool = False
    backend: str = "aot_eager"

    def __str__(self) -> str:
        """Returns `default` or `fullgraph`, then the other settings that differ from the default.

        >>> str(Mode()), str(Mode(fullgraph=True, dynamic=True, backward=True))
        ('default', 'fullgraph, dynamic=True, backward')
        """
        parts = ["fullgraph" if self.fullgraph else "default"]
        parts += [] if self.dynamic is None else [f"dynamic={self.dynamic}"]
        parts += ["backward"] * self.backward
        parts += [] if self.backend == "aot_eager" else [self.backend]
        return ", ".join(parts)


@dataclass(frozen=True)
class GraphBreak:
    """A place where Dynamo ended a graph and continued in Python or in a new graph.

    There is one object for each compilation that hit the break. A restart, which hits it again,
    does not count. Findings merge breaks at the same place.
    """

    reason: str
    """Dynamo's message: a headline, then an explanation, hints and context."""
    file: str
    line: int
    """The innermost traced line outside torch and the standard library, or else the caller's."""
    source: str
    """The text of that line."""
    gb_id: str = ""
    """The id in PyTorch's registry of graph breaks, `GB` and four digits. Empty if unknown."""
    hint: str = ""
    """Dynamo's advice, one hint per line."""
    owner: str = ""
    """`"yours"`, `"torch"`, `"python"` or the installed package of the innermost frame. That frame
    may be deeper than `line`.
    """
    compile_id: str = ""
    """The compilation that the break ended. Its captured graph precedes the break."""
    called_from: str = ""
    """Your line that leads to a break in a library, as `file:line`."""
    ops_before: int = 0
    ops_after: int = 0
    """How many ops the graph that ends here has, and the next one."""
    seconds: float | None = field(default=None, compare=False)
    """How long a call is in Python here, between two graphs. None if that was not measured."""
    skipped: bool = field(default=False, compare=False)
    """True if all of the function runs in eager mode because of the break."""


@dataclass(frozen=True)
class Recompile:
    """A frame that Dynamo compiled again because the guards of its earlier compilations failed."""

    reasons: tuple[str, ...]
    """The guard that failed, for each earlier compilation of the frame."""
    file: str
    line: int
    """The first line of the frame."""
    category: Category = "other"
    """What changed. `guard` and `argument` describe that change."""
    guard: str = ""
    """The failed guard, in Dynamo's text: `tensor 'x' size mismatch at 0. expected 3, actual 4`."""
    argument: str = ""
    """The argument, global or attribute in the guard, such as `x` or `self.n`."""
    owner: str = ""
    compile_id: str = ""
    hint: str = ""
    """PyTorch's advice, if it gives any."""
    guard_file: str = ""
    guard_line: int = 0
    """The line that reads the guarded value; for a frame of PyTorch, your line that calls it. The
    file is empty if unknown.
    """
    frame: str = ""
    """The name of the function or resume function."""


@dataclass(frozen=True)
class CapturedGraph:
    """A graph that Dynamo captured."""

    compile_id: str
    """Frame and compilation, such as `0/1`. Each resume function is a separate frame."""
    frame: str
    """The name of the function or resume function."""
    file: str
    line: int
    """The first line of the frame."""
    text: str
    """The graph as readable Python."""
    canonical: str = ""
    """The graph without names, places and types, for comparison with an expected graph."""
    ops: tuple[tuple[str, int], ...] = ()
    """The number of calls of each op, by name."""


@dataclass(frozen=True)
class Finding:
    """One problem and its place. `file` is empty if the problem has no place."""

    kind: Kind
    reason: str
    """What happened: a headline on the first line, then details."""
    hint: str = ""
    """What to do about it."""
    gb_id: str = ""
    file: str = ""
    line: int = 0
    source: str = ""
    owner: str = ""
    count: int = 1
    """How many times it happened, including in resume functions and at each inlined call."""
    case: str = field(default="", compare=False)
    """The name of the audited case, if it has one."""
    guard: str = ""
    argument: str = ""
    category: Category = ""
    called_from: str = ""
    """Your line that leads to a place in a library, as `file:line`."""
    cost: str = field(default="", compare=False)
    """What it costs, if that is known."""
    seconds: float | None = field(default=None, compare=False)
    """How long a call is in Python here. None if that was not measured."""
    number: int = field(default=0, compare=False)
    """Its number in the report, from 1. 0 if it was added after the audit."""
    caused_by: int = field(default=0, compare=False)
    """The number of the finding without which this one would not exist. 0 if there is none."""

    def __str__(self) -> str:
        """Returns a line with the place, kind and headline.

        >>> print(Finding("export", "it has a loop", file="model.py", line=7, count=2))
        model.py:7: export: it has a loop (2 times)
        """
        place = f"{_short(f'{self.file}:{self.line}')}: " if self.file else ""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{place}{self.kind}: {headline(self.reason)}{times}"

    def full_text(self) -> str:
        """Returns everything known about the finding, on several lines.

        >>> print(Finding("export", "it has a loop", source="for x in y:", hint="no").full_text())
        export: it has a loop
            source: for x in y:
            hint: no
        """
        rest = self.reason.partition("\n")[2]
        shown = " ".join(rest.split())  # Dynamo wraps its hints
        details = {
            "owner": "" if self.owner == YOURS else self.owner,
            "called from": _short(self.called_from),
            "guard": self.guard,
            "argument": self.argument,
            "category": self.category,
            "id": self.gb_id,
            "cost": self.cost,
            "hint": "\n".join(line for line in self.hint.splitlines() if line not in shown),
        }
        lines = [f"{name}: {text}" for name, text in details.items() if text]
        source = [f"source: {self.source}"] if self.source else []
        body = "\n".join([*source, *([textwrap.dedent(rest)] if rest else []), *lines])
        return "\n".join([str(self), *([textwrap.indent(body, "    ")] if body else [])])


def headline(reason: str) -> str:
    """Returns the first line of a reason, with single spaces.

    >>> headline("Data-dependent  branching\\n  Explanation: ...")
    'Data-dependent branching'
    """
    return " ".join(reason.partition("\n")[0].split())


def grouped(findings: Iterable[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """Returns the findings, each with its consequences.

    A consequence whose cause is not among the findings, because it is accepted, is on its own.

    >>> two = Finding("graph-break", "a loop", number=1), Finding("export", "no", caused_by=1)
    >>> [(str(cause), len(others)) for cause, others in grouped(two)]
    [('graph-break: a loop', 1)]
    >>> len(grouped(two[1:]))
    1
    """
    listed = [*findings]
    numbers = {finding.number for finding in listed} - {0}
    return [
        (cause, [f for f in listed if f.caused_by == cause.number != 0])
        for cause in listed
        if cause.caused_by not in numbers
    ]


@dataclass(frozen=True, repr=False)
class AuditReport:
    """What Dynamo did, and the problems that the audit found."""

    graphs: int = 0
    """The number of compiled graphs."""
    graph_breaks: tuple[GraphBreak, ...] = ()
    recompiles: tuple[Recompile, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Errors first, then breaks, those first that cost most. Consequences follow their cause."""
    mode: Mode | None = field(default=None, compare=False)
    """How the code was compiled and called. None for a report of `watch`."""
    captured_graphs: tuple[CapturedGraph, ...] = field(default=(), compare=False)
    """All graphs in the order of their compilation, with those that the backend rejected."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What the audit could not check, and why."""
    frames: tuple[Frame, ...] = field(default=(), compare=False)
    """The functions that Dynamo compiled, those first that took longest."""
    times: Times | None = field(default=None, compare=False)
    """How long a call takes. None if that was not measured."""

    @property
    def ok(self) -> bool:
        """True if there are no findings."""
        return not self.findings

    def assert_clean(self) -> None:
        """Raises an `AssertionError` with `full_text`, if there are findings.

        >>> AuditReport(graphs=1).assert_clean()
        >>> AuditReport(findings=(Finding("nothing-compiled", "no graph"),)).assert_clean()
        Traceback (most recent call last):
        AssertionError: nothing-compiled: no graph
        """
        if not self.ok:
            raise AssertionError(self.full_text())

    def full_text(self) -> str:
        """Returns everything known about all findings. If there are several, a list comes first.

        >>> two = (Finding("export", "it has a loop", hint="no"), Finding("mismatch", "differs"))
        >>> print(AuditReport(findings=two).full_text())
        export: it has a loop
        mismatch: differs
        <BLANKLINE>
        export: it has a loop
            hint: no
        <BLANKLINE>
        mismatch: differs
        """
        listed = [str(self)] if len(self.findings) > 1 else []
        return "\n\n".join([*listed, *(finding.full_text() for finding in self.findings)])

    def as_dict(self) -> dict[str, Any]:
        """Returns the whole report as types that JSON supports."""
        document: dict[str, Any] = json.loads(json.dumps({"ok": self.ok, **asdict(self)}))
        return document

    def to_json(self) -> str:
        """Returns the whole report as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> AuditReport:
        """Returns the report that `as_dict` converted.

        >>> report = AuditReport(2, recompiles=(Recompile(("size",), "model.py", 3),))
        >>> AuditReport.from_dict(report.as_dict()) == report
        True
        """
        mode = document["mode"]
        return cls(
            graphs=document["graphs"],
            graph_breaks=tuple(GraphBreak(**item) for item in document["graph_breaks"]),
            recompiles=tuple(
                Recompile(**{**item, "reasons": tuple(item["reasons"])})
                for item in document["recompiles"]
            ),
            findings=tuple(Finding(**item) for item in document["findings"]),
            mode=None if mode is None else Mode(**mode),
            captured_graphs=tuple(
                CapturedGraph(**{**item, "ops": tuple(map(tuple, item["ops"]))})
                for item in document["captured_graphs"]
            ),
            notes=tuple(document["notes"]),
            frames=tuple(Frame(**item) for item in document.get("frames", ())),
            times=Times(**times) if (times := document.get("times")) else None,
        )

    def __str__(self) -> str:
        """Returns one line per finding, so that `assert report.ok, report` shows the problems.

        Consequences are indented below their cause.
        """
        lines = []
        for cause, consequences in grouped(self.findings):
            lines += [str(cause), *(f"  {finding}" for finding in consequences)]
        return "\n".join(lines) or "ok"

    def __repr__(self) -> str:
        """Returns the counts and all findings.

        >>> AuditReport(graphs=1)
        <AuditReport: 1 graph, 0 graph breaks, 0 recompiles: ok>
        """
        counts = ", ".join(
            f"{number} {name}{'' if number == 1 else 's'}"
            for number, name in (
                (self.graphs, "graph"),
                (len(self.graph_breaks), "graph break"),
                (len(self.recompiles), "recompile"),
            )
        )
        verdict = " ok" if self.ok else "".join(f"\n  {finding}" for finding in self.findings)
        return f"<AuditReport: {counts}:{verdict}>"


def _short(place: str) -> str:
    """Returns a place `file:line` with the name of the cell, if the file is a cell of a notebook,
    or else relative to the working directory if the file is inside it.
    """
    file, colon, line = place.rpartition(":")
    return f"{_cell(file) or file.removeprefix(os.getcwd() + os.sep)}{colon}{line}"


def _cell(file: str) -> str:
    """Returns the name that IPython shows for the code of a cell, such as `Cell In[3]`, or `""`."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    name_of = getattr(getattr(shell, "compile", None), "format_code_name", None)
    name = name_of(file) if name_of else None
    return " ".join(name) if name else ""
