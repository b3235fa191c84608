"""What one run of the command found, and what makes two findings the same one.

The value that baselines judge and outputs show. Like `findings`, it imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from compile_checks._engine.findings import AuditReport, Finding, GraphBreak

_SITE_PACKAGES = re.compile(r".*/(?:site|dist)-packages/")
# What differs from run to run within one and the same finding: addresses, measured differences and
# the numbers of compilations, such as `0/1: `.
_VOLATILE = re.compile(r"\b\d+/\d+: |0x[0-9a-fA-F]+|\b\d+\.\d+(?:e[+-]?\d+)?\b|\b\d+e[+-]?\d+\b")


@dataclass(frozen=True)
class Known:
    """A finding that a baseline accepts."""

    finding: Finding
    reason: str
    expires: str
    """The last day on which it is accepted, as `YYYY-MM-DD`."""


@dataclass(frozen=True)
class CaseResult:
    """One audited case. The findings of its report are those that count against it."""

    name: str
    report: AuditReport
    known: tuple[Known, ...] = ()
    seconds: float = 0.0
    file: str = ""
    line: int = 0
    """Where the audited callable is defined, for findings that have no place of their own."""

    def place(self, finding: Finding) -> tuple[str, int]:
        """File and line to show a finding at; the file is empty where none is known."""
        file, line = (finding.file, finding.line) if finding.file else (self.file, self.line)
        return portable_path(file), line


@dataclass(frozen=True)
class Results:
    """All cases of a run, in their order, and the PyTorch that they speak of."""

    cases: tuple[CaseResult, ...]
    torch: str

    @property
    def ok(self) -> bool:
        return all(case.report.ok for case in self.cases)

    @property
    def failed(self) -> int:
        """How many cases have findings."""
        return sum(not case.report.ok for case in self.cases)

    def findings(self) -> Iterator[tuple[CaseResult, Finding]]:
        for case in self.cases:
            for finding in case.report.findings:
                yield case, finding


class Identity(NamedTuple):
    """What makes two findings the same one, even after lines were moved about.

    Two places with the same text in one file share it; the baseline counts them.
    """

    kind: str
    file: str
    source: str
    headline: str
    case: str
    """Empty where there is a file: a break belongs to its place, whichever case met it."""

    def fingerprint(self) -> str:
        """A short digest.

        >>> Identity("graph-break", "model.py", "x.item()", "Tensor.item()", "").fingerprint()
        '4b30e6c9ae7f1752'
        """
        return hashlib.sha256("\0".join(self).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def identity(case: str, finding: Finding) -> Identity:
    """The identity of a finding of a case.

    >>> identity("step", Finding("mismatch", "largest difference 1.5e-3 at <f at 0x7f01>")).headline
    'largest difference # at <f at #>'
    """
    return Identity(
        finding.kind,
        portable_path(finding.file),
        " ".join(finding.source.split()),
        _VOLATILE.sub("#", headline(finding)),
        "" if finding.file else case,
    )


def headline(finding: Finding | GraphBreak) -> str:
    """The first line of what happened."""
    return " ".join(finding.reason.partition("\n")[0].split())


def portable_path(file: str) -> str:
    """The same on every machine: relative to the working directory, or to the packages' one.

    >>> portable_path("/opt/lib/python3.12/site-packages/torch/nn/modules/rnn.py")
    'torch/nn/modules/rnn.py'
    """
    path = Path(file).as_posix() if file else ""
    inside = path.removeprefix(Path(os.getcwd()).as_posix() + "/")
    return _SITE_PACKAGES.sub("", inside)
