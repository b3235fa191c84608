"""What an audit hands back, and how it is shown: objects, a terminal table, JSON."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from compile_checks.trace import GraphBreak, Recompile

Rule = Literal[
    "error",  # the audited code raised
    "fallback",  # Dynamo gave up on a frame, which ran in eager mode
    "graph-break",
    "graph-budget",  # more graphs than the calls may cost
    "missing-case",  # something is registered that no case audits
    "no-gradient",  # a backward was asked for, and nothing requires grad
    "nothing-compiled",
    "recompile",
    "recompile-limit",  # recompiled so often that Dynamo leaves the frame to eager mode
]

_WIDTH = 80
_COLUMNS = "graphs breaks recompiles result"
_NAME_WIDTH = _WIDTH - len(_COLUMNS) - 1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where. It has no `file` where it has no place."""

    rule: Rule
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{_short(self.file)}:{self.line}: " if self.file else ""
        headline = " ".join(self.message.partition("\n")[0].split())
        return f"{place}{self.rule}: {headline}"


@dataclass(frozen=True)
class AuditReport:
    """What Dynamo did, and what of it is wrong."""

    graphs: int = 0
    """How many graphs were compiled."""
    graph_breaks: tuple[GraphBreak, ...] = ()
    recompiles: tuple[Recompile, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        """One line per finding, so that `assert report.ok, report` says what is wrong."""
        return "\n".join(map(str, self.findings)) or "ok"

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"ok": self.ok, **asdict(self)}


def header() -> str:
    return f"{'case':{_NAME_WIDTH}} {_COLUMNS}"


def row(name: str, report: AuditReport) -> str:
    """One line of a table, under `header()`, and below it what was found."""
    counts = (
        f"{report.graphs:6} {len(report.graph_breaks):6} {len(report.recompiles):10} "
        f"{'ok' if report.ok else 'FAIL'}"
    )
    return "\n".join([f"{name:{_NAME_WIDTH}} {counts}", *map(_wrapped, _counted(report.findings))])


def summary(reports: Mapping[str, AuditReport]) -> str:
    failed = sum(not report.ok for report in reports.values())
    return f"{len(reports)} cases, {failed or 'none'} failed"


def to_json(reports: Mapping[str, AuditReport]) -> str:
    """All reports by case, and the PyTorch that they speak of."""
    document = {
        "torch": torch.__version__,
        "ok": all(report.ok for report in reports.values()),
        "cases": [{"name": name, **report.as_dict()} for name, report in reports.items()],
    }
    return json.dumps(document, indent=2)


def _wrapped(text: str) -> str:
    """Indented, and no wider than the table. Paths stay whole, to be clicked on."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _counted(findings: tuple[Finding, ...]) -> list[str]:
    """Equal lines once: a helper breaks once for each place it is called from."""
    texts = [str(finding) for finding in findings]
    return [
        f"{text} ({texts.count(text)} times)" if texts.count(text) > 1 else text
        for text in dict.fromkeys(texts)
    ]


def _short(file: str) -> str:
    """Relative to the working directory where the file is inside it."""
    return file.removeprefix(os.getcwd() + os.sep)
