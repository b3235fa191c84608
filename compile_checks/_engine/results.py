"""The results of one run of the command, and the identity of a finding across runs.

Baselines judge these values and outputs render them. Like `findings`, this module does not import
torch.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from compile_checks._engine.findings import AuditReport, Finding, headline

_SITE_PACKAGES = re.compile(r".*/(?:site|dist)-packages/")
# The parts of a finding that change from run to run: addresses, measured differences and the
# ids of compilations, such as `0/1: `.
_VOLATILE = re.compile(r"\b\d+/\d+: |0x[0-9a-fA-F]+|\b\d+\.\d+(?:e[+-]?\d+)?\b|\b\d+e[+-]?\d+\b")


@dataclass(frozen=True)
class Known:
    """A finding that a baseline accepts."""

    finding: Finding
    reason: str
    """Why it is accepted."""
    expires: str
    """The last day on which it is accepted, as `YYYY-MM-DD`."""


@dataclass(frozen=True)
class CaseResult:
    """One audited case. The findings of its report count against it; known ones do not."""

    name: str
    report: AuditReport
    known: tuple[Known, ...] = ()
    seconds: float = 0.0
    file: str = ""
    line: int = 0
    """The line that defines the audited callable, for findings that have no place."""

    def place(self, finding: Finding) -> tuple[str, int]:
        """Returns the file and line to show a finding at. The file is empty if unknown."""
        file, line = (finding.file, finding.line) if finding.file else (self.file, self.line)
        return portable_path(file), line


@dataclass(frozen=True)
class Results:
    """All cases of a run in order, and the version of PyTorch that ran them."""

    cases: tuple[CaseResult, ...]
    torch: str

    @property
    def ok(self) -> bool:
        """True if no case has findings."""
        return all(case.report.ok for case in self.cases)

    @property
    def failed(self) -> int:
        """The number of cases that have findings."""
        return sum(not case.report.ok for case in self.cases)

    def findings(self) -> Iterator[tuple[CaseResult, Finding]]:
        """Yields every finding with its case."""
        for case in self.cases:
            for finding in case.report.findings:
                yield case, finding


class Identity(NamedTuple):
    """The fields that identify a finding across runs, even if its line has moved.

    Two places with the same text in one file have the same identity; the baseline counts them.
    """

    kind: str
    file: str
    source: str
    headline: str
    case: str
    """Empty if there is a file: a break belongs to its place, not to the case that found it."""

    def fingerprint(self) -> str:
        """Returns a short digest.

        >>> Identity("graph-break", "model.py", "x.item()", "Tensor.item()", "").fingerprint()
        '4b30e6c9ae7f1752'
        """
        return hashlib.sha256("\0".join(self).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def identity(case: str, finding: Finding) -> Identity:
    """Returns the identity of a finding of a case.

    >>> identity("step", Finding("mismatch", "largest difference 1.5e-3 at <f at 0x7f01>")).headline
    'largest difference # at <f at #>'
    """
    return Identity(
        finding.kind,
        portable_path(finding.file),
        " ".join(finding.source.split()),
        _VOLATILE.sub("#", headline(finding.reason)),
        "" if finding.file else case,
    )


def portable_path(file: str) -> str:
    """Returns a path that is the same on every machine.

    It is relative to the working directory, or to the directory of installed packages.

    >>> portable_path("/opt/lib/python3.12/site-packages/torch/nn/modules/rnn.py")
    'torch/nn/modules/rnn.py'
    """
    path = Path(file).as_posix() if file else ""
    inside = path.removeprefix(Path(os.getcwd()).as_posix() + "/")
    return _SITE_PACKAGES.sub("", inside)
