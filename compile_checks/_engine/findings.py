"""What an audit hands back: plain frozen values, all of which JSON can carry.

The leaf of this package: everything else imports it, and it imports nothing of it.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

Kind = Literal[
    "baseline-expired",
    "baseline-vanished",
    "crash",
    "cudagraph-skip",
    "disagreement",
    "error",
    "export",
    "fallback",
    "graph-break",
    "graph-budget",
    "graph-snapshot",
    "host-sync",
    "mismatch",
    "missing-case",
    "no-gradient",
    "not-pt2-compliant",
    "nothing-compiled",
    "opcheck",
    "recompile",
    "recompile-limit",
    "timeout",
]

KINDS: Final[Mapping[Kind, str]] = {
    "baseline-expired": "an entry of the baseline file has passed its date",
    "baseline-vanished": "the baseline file accepts a finding that is no longer there",
    "crash": "the process of a case ended before the case did",
    "cudagraph-skip": "a compiled graph runs without CUDA graphs, for a reason that Inductor gives",
    "disagreement": "PyTorch's own counters differ in a way that the audit cannot explain",
    "error": "the audited code raised",
    "export": "torch.export does not take the code",
    "fallback": "Dynamo gave up on a frame, which ran in eager mode",
    "graph-break": "a graph ended before the code did",
    "graph-budget": "more graphs were compiled than the calls may cost",
    "graph-snapshot": "the captured graph is not the one that was expected",
    "host-sync": "the host waits for the GPU within a call",
    "mismatch": "eager and compiled code give different results",
    "missing-case": "something is registered that no case audits",
    "no-gradient": "a backward was asked for, and nothing requires grad",
    "not-pt2-compliant": "an op in the graph is not tagged as fit for torch.compile",
    "nothing-compiled": "no graph was compiled at all",
    "opcheck": "a custom op in the graph fails torch.library.opcheck",
    "recompile": "a frame was compiled anew although nothing of substance changed",
    "recompile-limit": "recompiled so often that Dynamo leaves the frame to eager mode",
    "timeout": "a case took longer than it may, and its process was ended",
}
"""Every kind of finding, and what it means."""

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
"""What changed, where a guard failed."""

CATEGORIES: Final[tuple[str, ...]] = get_args(Category)

YOURS: Final = "yours"
"""The owner of code that is neither torch's nor of another installed package."""


@dataclass(frozen=True)
class Mode:
    """One way to compile and call a function."""

    fullgraph: bool = False
    dynamic: bool | None = None
    backward: bool = False
    backend: str = "aot_eager"

    def __str__(self) -> str:
        """
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
    """A place where Dynamo ended a graph and left the rest to eager Python, or to a new graph.

    One for each time that Dynamo met it; the findings of an audit count equal ones together.
    """

    reason: str
    """What Dynamo says: a headline, then an explanation, hints and what it looked at."""
    file: str
    line: int
    """The innermost frame outside torch, or where there is none, the innermost."""
    source: str
    """The text of that line."""
    gb_id: str = ""
    """`GB` and four digits: the entry in PyTorch's registry of graph breaks, where it is known."""
    hint: str = ""
    """What Dynamo advises, a line each."""
    owner: str = ""
    """`"yours"`, `"torch"`, or the name of the installed package that `file` belongs to."""
    compile_id: str = ""
    """The compilation that it ended, which is that of the graph before it: `captured_graphs`."""


@dataclass(frozen=True)
class Recompile:
    """A frame that was compiled anew because the guards of what was compiled before failed."""

    reasons: tuple[str, ...]
    """The guard that failed, for each earlier compilation of the frame."""
    file: str
    line: int
    """Where the frame begins."""
    category: Category = "other"
    """What changed since the latest compilation whose guards failed. So are `guard`, `argument`."""
    guard: str = ""
    """What failed, in Dynamo's words: `tensor 'x' size mismatch at 0. expected 3, actual 4`."""
    argument: str = ""
    """The argument, global or attribute that the guard speaks of, such as `x` or `self.n`."""
    owner: str = ""
    compile_id: str = ""


@dataclass(frozen=True)
class CapturedGraph:
    """A graph that Dynamo captured."""

    compile_id: str
    """Frame and compilation, such as `0/1`. Resume frames are frames of their own."""
    frame: str
    """The name of the function, or that of its resume function."""
    file: str
    line: int
    """Where the frame begins."""
    text: str
    """The graph as readable Python."""
    canonical: str = ""
    """The same without names, places and types, to be compared with what was expected."""
    ops: tuple[tuple[str, int], ...] = ()
    """How often each op occurs, by name."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where. It has no `file` where it has no place."""

    kind: Kind
    reason: str
    """Its first line says what happened."""
    hint: str = ""
    """What to do about it."""
    gb_id: str = ""
    file: str = ""
    line: int = 0
    source: str = ""
    owner: str = ""
    count: int = 1
    """How often, resume frames and second inlinings of the same code taken together."""
    case: str = field(default="", compare=False)
    """The name of the audited case, where it has one."""
    guard: str = ""
    argument: str = ""
    category: Category = ""

    def __str__(self) -> str:
        """One line: place, kind and headline.

        >>> print(Finding("export", "it has a loop", file="model.py", line=7, count=2))
        model.py:7: export: it has a loop (2 times)
        """
        place = f"{_short(self.file)}:{self.line}: " if self.file else ""
        headline = " ".join(self.reason.partition("\n")[0].split())
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{place}{self.kind}: {headline}{times}"

    def full_text(self) -> str:
        """All that is known of it, over several lines.

        >>> print(Finding("export", "it has a loop", source="for x in y:", hint="no").full_text())
        export: it has a loop
            source: for x in y:
            hint: no
        """
        rest = self.reason.partition("\n")[2]
        details = {
            "source": self.source,
            "owner": "" if self.owner == YOURS else self.owner,
            "guard": self.guard,
            "argument": self.argument,
            "category": self.category,
            "id": self.gb_id,
            "hint": "\n".join(line for line in self.hint.splitlines() if line not in rest),
        }
        lines = [f"{name}: {text}" for name, text in details.items() if text]
        body = "\n".join([*([textwrap.dedent(rest)] if rest else []), *lines])
        return "\n".join([str(self), *([textwrap.indent(body, "    ")] if body else [])])


@dataclass(frozen=True, repr=False)
class AuditReport:
    """What Dynamo did, and what of it is wrong."""

    graphs: int = 0
    """How many graphs were compiled."""
    graph_breaks: tuple[GraphBreak, ...] = ()
    recompiles: tuple[Recompile, ...] = ()
    findings: tuple[Finding, ...] = ()
    mode: Mode | None = field(default=None, compare=False)
    """How it was compiled and called; `None` where the audit only watched."""
    captured_graphs: tuple[CapturedGraph, ...] = field(default=(), compare=False)
    """The graphs in the order of their compilations."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was not judged, and why not."""

    @property
    def ok(self) -> bool:
        return not self.findings

    def assert_clean(self) -> None:
        """Raises an `AssertionError` that tells all of every finding, where there is one.

        >>> AuditReport(graphs=1).assert_clean()
        >>> AuditReport(findings=(Finding("nothing-compiled", "no graph"),)).assert_clean()
        Traceback (most recent call last):
        AssertionError: nothing-compiled: no graph
        """
        if not self.ok:
            raise AssertionError("\n\n".join(finding.full_text() for finding in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """All of it, in the types that JSON has."""
        document: dict[str, Any] = json.loads(json.dumps({"ok": self.ok, **asdict(self)}))
        return document

    def to_json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> AuditReport:
        """The report that `as_dict` was made of.

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
        )

    def __str__(self) -> str:
        """One line per finding, so that `assert report.ok, report` says what is wrong."""
        return "\n".join(map(str, self.findings)) or "ok"

    def __repr__(self) -> str:
        """
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


def _short(file: str) -> str:
    """Relative to the working directory where the file is inside it."""
    return file.removeprefix(os.getcwd() + os.sep)
