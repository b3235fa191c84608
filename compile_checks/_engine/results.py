"""The results of one run of the command, and the identity of a finding across runs.

Baselines judge these values and outputs render them. Like `findings`, this module does not import
torch.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from compile_checks._engine.findings import AuditReport, Finding, Kind, headline

_SITE_PACKAGES = re.compile(r".*/(?:site|dist)-packages/")
_NOTEBOOK = re.compile(r".*/ipykernel_\d+/\d+\.py\Z|<ipython-input-.*>\Z")
_PROJECT_FILES = (".git", "pyproject.toml", "setup.py", "setup.cfg")
_FOLDERS = re.compile(
    r"""(?:[\w.~-]*[/\\])+(?=[\w.-]+\.py\b)  # of a Python file: Dynamo shortens paths
    | (?<![\w./:\\])(?:[A-Za-z]:)?(?:[/\\][\w.~-]+)+[/\\](?=[\w.-])  # absolute""",
    re.VERBOSE,
)
_CHECKED_ID = re.compile(r"(___check_(?:obj|type)_id\(.*?, )\d+(?=\))")
_VOLATILE = re.compile(
    r"""\b\d+/\d+(?:_\d+)?\b(?::[ ])?  # the id of a compilation
    | 0x[0-9a-fA-F]+ | \b\d{9,}\b  # addresses and the ids of objects
    | (?<=\.py:)\d+ | (?<=\bline[ ])\d+
    | \b\d+\.\d+(?:e[+-]?\d+)?\b | \b\d+e[+-]?\d+\b  # measured differences""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Known:
    """A finding that is accepted: by a baseline, a comment in the code, or because its kind is."""

    finding: Finding
    reason: str
    """Why it is accepted."""
    expires: str
    """The last day on which it is accepted, as `YYYY-MM-DD`; empty if it is always ignored."""

    @property
    def until(self) -> str:
        """Says how long it is accepted."""
        return f"known until {self.expires}" if self.expires else "ignored"


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

    def ignoring(self, kinds: Collection[Kind]) -> CaseResult:
        """Returns this result with the findings of some kinds among the known ones."""
        ignored = [finding for finding in self.report.findings if finding.kind in kinds]
        counted = [finding for finding in self.report.findings if finding.kind not in kinds]
        report = replace(self.report, findings=tuple(counted))
        known = (Known(finding, "findings of this kind are ignored", "") for finding in ignored)
        return replace(self, report=report, known=(*self.known, *known))

    def place(self, finding: Finding) -> tuple[str, int]:
        """Returns the file and line to show a finding at. The file is empty if unknown."""
        file, line = (finding.file, finding.line) if finding.file else (self.file, self.line)
        return portable_path(file), line


BASELINE: Final = "baseline"
"""The name of the row that lists the stale entries of a baseline. It is not a case."""


@dataclass(frozen=True)
class Results:
    """All cases of a run in order, and the version of PyTorch that ran them. The last one may be
    the row `BASELINE`.
    """

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

    @property
    def audited(self) -> int:
        """The number of cases, without the row of the baseline."""
        return len(self.cases) - self.has_stale_entries

    @property
    def has_stale_entries(self) -> bool:
        """True if the last row lists the stale entries of a baseline."""
        stale = ("baseline-expired", "baseline-vanished")
        last = self.cases[-1:]
        return any(
            c.name == BASELINE and any(f.kind in stale for f in c.report.findings) for c in last
        )

    def findings(self) -> Iterator[tuple[CaseResult, Finding]]:
        """Yields every finding with its case."""
        for case in self.cases:
            for finding in case.report.findings:
                yield case, finding


class Identity(NamedTuple):
    """The fields that identify a finding across runs, processes and machines.

    They are the same after its line has moved and in another copy of the project. Two places with
    the same text in one file have the same identity; the baseline counts them.
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

    A recompile is identified by its guard: its reason also names the earlier compilations.

    >>> identity("step", Finding("mismatch", "largest difference 1.5e-3 at <f at 0x7f01>")).headline
    'largest difference # at <f at #>'
    >>> identity("step", Finding("recompile", "0/0: ...", guard="___check_type_id(h, 9745216)"))[3]
    '___check_type_id(h, #)'
    """
    return Identity(
        finding.kind,
        _path_in_project(finding.file),
        " ".join(finding.source.split()),
        _stable(headline(finding.guard or finding.reason)),
        "" if finding.file else _case_in_project(case),
    )


def _case_in_project(case: str) -> str:
    """Returns the name of a case with the path of its file relative to the project."""
    file, colons, name = case.partition("::")
    if not colons or not file.endswith(".py"):
        return case
    return _path_in_project(os.path.abspath(file)) + colons + name


def _stable(text: str) -> str:
    """Replaces the parts of a text that differ between runs and between machines.

    >>> _stable("0/1: <f at 0x7f01> failed in /home/me/project/model.py:7, line 7 of /tmp/log.txt")
    '#<f at #> failed in model.py:#, line # of log.txt'
    """
    return _VOLATILE.sub("#", _CHECKED_ID.sub(r"\1#", _FOLDERS.sub("", text)))


def _path_in_project(file: str) -> str:
    """Returns a path relative to the project or package that contains the file."""
    if not file or _NOTEBOOK.match(file):
        return "<notebook>" if file else ""
    path = Path(file)
    installed = _SITE_PACKAGES.sub("", path.as_posix())
    if installed != path.as_posix():
        return installed
    if path.is_absolute():
        for root in (Path(sysconfig.get_path("stdlib")), *_roots(path.parent), Path.cwd()):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return path.name
    return path.as_posix()


@functools.cache
def _roots(folder: Path) -> tuple[Path, ...]:
    """Returns the nearest folder around one that looks like the root of a project, if any."""
    around = (folder, *folder.parents)
    found = (root for root in around if any((root / name).exists() for name in _PROJECT_FILES))
    return tuple(found)[:1]


def portable_path(file: str) -> str:
    """Returns a path that is the same on every machine.

    It is relative to the working directory, or to the directory of installed packages.

    >>> portable_path("/opt/lib/python3.12/site-packages/torch/nn/modules/rnn.py")
    'torch/nn/modules/rnn.py'
    """
    path = Path(file).as_posix() if file else ""
    inside = path.removeprefix(Path(os.getcwd()).as_posix() + "/")
    return _SITE_PACKAGES.sub("", inside)
