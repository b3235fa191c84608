"""Kinds of graph breaks from PyTorch's registry, with one file in `samples` for each.

Each file has a function `audited`. Each line that a report must name has a comment such as

    # finding: graph-break GB0124|GB0038 x2

with the kind, its ids in PyTorch's registry (several if releases of PyTorch differ), and the count if it
is not 1. `since 2.13` or `before 2.15` at the end limits a finding to those releases. A comment on a
separate line is a finding without a place. A line with two findings has two comments.
"""

from __future__ import annotations

import importlib
import linecache
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from compile_checks import AuditReport, Finding, Mode, audit
from tests.compile_checks import samples

WHEN = r"(?: (?P<when>since|before) (?P<release>2\.\d+))?"
_COMMENT = re.compile(
    r"# finding: (?P<kind>[\w-]+)(?: (?P<ids>GB[\w|]+))?(?: x(?P<count>\d+))?"
    rf"{WHEN}(?=$|  # )"
)

SAMPLES = [
    name
    for _, name, _ in pkgutil.iter_modules(samples.__path__)
    if name not in ("breaks", "clean", "models")
]

VERSION = torch.torch_version.TorchVersion(torch.__version__)


@dataclass(frozen=True)
class Expected:
    """A finding that a sample expects."""

    kind: str
    line: int
    count: int
    ids: frozenset[str]

    def is_met_by(self, finding: Finding) -> bool:
        # Before torch 2.13, exceptions have no kind, and the registry lacks some ids.
        ids = self.ids if VERSION >= (2, 13) else self.ids | {""}
        return (self.kind, self.line, self.count) == (
            finding.kind,
            finding.line,
            finding.count,
        ) and finding.gb_id in (ids or {""})


def expected_of(file: str) -> list[Expected]:
    found = []
    for number, line in enumerate(Path(file).read_text().splitlines(), 1):
        for comment in filter(holds, _COMMENT.finditer(line)):
            ids = frozenset((comment["ids"] or "").split("|")) - {""}
            place = 0 if line.startswith("#") else number
            found.append(Expected(comment["kind"], place, int(comment["count"] or 1), ids))
    return sorted(found, key=lambda expected: (expected.line == 0, expected.line))


def assert_expected(report: AuditReport, file: str) -> None:
    """Asserts that a report has the findings that the comments of a file name, and no others."""
    expected = expected_of(file)
    found = sorted(report.findings, key=lambda finding: (finding.line == 0, finding.line))
    assert len(found) == len(expected), report
    for wanted, finding in zip(expected, found, strict=True):
        assert wanted.is_met_by(finding), (wanted, finding)
        assert finding.file == (file if finding.line else "")
        assert finding.reason
        assert finding.source == linecache.getline(finding.file, finding.line).strip()


def holds(comment: re.Match[str]) -> bool:
    """True if a comment is about this release of PyTorch."""
    if comment["when"] is None:
        return True
    version = VERSION
    return (version >= comment["release"]) == (comment["when"] == "since")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_found_as_it_says(name: str) -> None:
    module = importlib.import_module(f"tests.compile_checks.samples.{name}")
    assert module.__file__ is not None

    assert_expected(audit(module.audited, (torch.ones(3),)), module.__file__)


def test_there_are_samples_of_many_kinds() -> None:
    ids = {i for name in SAMPLES for e in expected_of(_file(name)) for i in sorted(e.ids)[:1]}

    assert len(SAMPLES) >= 12
    assert len(ids) >= 12


def _file(name: str) -> str:
    return str(Path(samples.__path__[0]) / f"{name}.py")


@pytest.mark.parametrize("name", ["resize", "lock", "while_on_data"])
def test_fullgraph_stops_at_the_same_line(name: str) -> None:
    module = importlib.import_module(f"tests.compile_checks.samples.{name}")
    default = audit(module.audited, (torch.ones(3),))

    full = audit(module.audited, (torch.ones(3),), fullgraph=True)

    assert full.mode == Mode(fullgraph=True)
    assert [f.kind for f in full.findings] == ["graph-break"]
    assert full.graph_breaks[0].line == default.graph_breaks[0].line
