"""Public reports of graph breaks and recompiles, with one file in `reports` for each.

Each file has a target `audited`, which reproduces the report in our own code, and the comments of
`samples`. Its docstring says the kind and the address of the report. If the audit advises something,

    # advice: keep options the same in every call

is a part of the first hint of a finding. It may end with `since` or `before` as a finding may. The target
`fixed` follows that advice, or `config` has the settings of Dynamo that it names. Then there are no
findings.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from compile_checks import AuditReport
from compile_checks.command.targets import load
from tests.compile_checks import reports
from tests.compile_checks.install import ROOT
from tests.compile_checks.test_samples import (
    VERSION,
    WHEN,
    assert_expected,
    expected_of,
    holds,
)

NAMES = [name for _, name, _ in pkgutil.iter_modules(reports.__path__)]
PAGE = ROOT / "docs" / "audit-reports.md"
_ADVICE = re.compile(rf"^# advice: (?P<text>.+?){WHEN}$", re.MULTILINE)
_SOURCE = re.compile(r"https://github\.com/([\w-]+/[\w-]+)/(?:issues|pull)/(\d+)")

_quiet = pytest.mark.filterwarnings("ignore::UserWarning")  # that the reports cause


class Report(NamedTuple):
    """What a file says about its report."""

    file: str
    text: str
    kind: str
    about: str
    source: str

    @classmethod
    def of(cls, name: str) -> Report:
        """Reads a file."""
        file = str(Path(reports.__path__[0]) / f"{name}.py")
        text = Path(file).read_text()
        first, source = text.removeprefix('"""').splitlines()[:2]
        kind, about = first.split(": ", 1)
        return cls(file, text, kind, about, source)

    @property
    def advice(self) -> list[str]:
        """What the hints must contain."""
        return [found["text"] for found in filter(holds, _ADVICE.finditer(self.text))]

    def row(self) -> str:
        """Returns the row of this report in the table of the page."""
        source = _SOURCE.fullmatch(self.source)
        assert source is not None, self.source
        counted = [
            f"`{e.kind}`" + (f" x{e.count}" if e.count > 1 else "") for e in expected_of(self.file)
        ]
        path = Path(self.file).relative_to(ROOT)
        cells = [
            self.kind,
            f"[{source[1]}#{source[2]}]({self.source})",
            self.about.removesuffix("."),
            ", ".join(counted) or "none",
            "; ".join(self.advice),
            f"[{path.name}](../{path.as_posix()})",
        ]
        return f"| {' | '.join(cells)} |"


def audited(name: str, target: str) -> AuditReport:
    (case,) = load(f"{reports.__name__}.{name}:{target}", ROOT)
    return case.run()


@_quiet
@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_found_with_its_advice(name: str) -> None:
    expected = Report.of(name)

    found = audited(name, "audited")

    assert_expected(found, expected.file)
    first_hints = [finding.hint.partition("\n")[0] for finding in found.findings]
    for advice in expected.advice:
        assert any(advice in hint for hint in first_hints), first_hints


@_quiet
@pytest.mark.parametrize("name", [name for name in NAMES if Report.of(name).advice])
def test_the_advice_removes_the_findings(name: str) -> None:
    module = importlib.import_module(f"{reports.__name__}.{name}")
    target = "fixed" if hasattr(module, "fixed") else "audited"

    with torch._dynamo.config.patch(getattr(module, "config", {})):
        audited(name, target).assert_clean()


@pytest.mark.skipif(VERSION < (2, 13) or VERSION >= (2, 14), reason="the page is about torch 2.13")
def test_the_page_lists_every_report_with_its_source() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| ")][2:]

    assert rows == sorted(Report.of(name).row() for name in NAMES)


def test_there_are_reports_of_many_kinds() -> None:
    kinds = [Report.of(name).kind.lower() for name in NAMES]

    assert len({Report.of(name).source for name in NAMES}) == len(NAMES) >= 20
    assert sum("recompile" in kind for kind in kinds) >= 7
    assert sum("break" in kind for kind in kinds) >= 10
    assert kinds.count("clean") <= 4
