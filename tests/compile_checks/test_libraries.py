"""Breaks in packages: whose code broke, and which line of yours leads there."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from compile_checks import AuditReport, Finding, audit, watch
from compile_checks._engine.places import owner_of
from compile_checks._engine.results import CaseResult, Results
from compile_checks.command import owners

CODE = """
import torch

def helper(x):
    torch._dynamo.graph_break()
    return x + 1
"""


@contextmanager
def vendored(recorded: bool = True) -> Iterator[ModuleType]:
    """A package in a folder of its own, as `pip install --target` leaves it."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        package, info = Path(folder, "vendored"), Path(folder, "vendored-1.0.dist-info")
        package.mkdir()
        (package / "__init__.py").write_text(CODE)
        if recorded:
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vendored\nVersion: 1.0\n")
            (info / "RECORD").write_text("vendored/__init__.py,,\n")
        patch.syspath_prepend(folder)
        yield import_module("vendored")
        del sys.modules["vendored"]


def in_package(recorded: bool = True) -> AuditReport:
    with vendored(recorded) as library:

        def yours(x: Tensor) -> Tensor:
            y: Tensor = library.helper(x * 2)
            return y * 2

        return audit(yours, (torch.ones(3),))


LINE = next(
    number
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
    if line.strip().startswith("y: Tensor = library.helper")
)


def test_a_break_in_a_library_names_your_line() -> None:
    (finding,) = in_package().findings
    assert (finding.source, finding.owner) == ("torch._dynamo.graph_break()", "vendored")
    assert finding.called_from == f"{__file__}:{LINE}"
    assert f"called from: {Path(__file__).relative_to(Path.cwd())}:{LINE}" in finding.full_text()


def test_code_that_no_package_records_is_yours() -> None:
    (finding,) = in_package(recorded=False).findings
    assert (finding.owner, finding.called_from) == ("yours", "")


def test_a_library_that_is_compiled_by_itself_has_the_caller() -> None:
    with vendored() as library, watch() as watched:
        torch.compile(library.helper, backend="eager")(torch.ones(3))
    (finding,) = watched.report().findings
    assert finding.called_from.startswith(__file__)


def test_an_audit_of_a_library_has_no_caller() -> None:
    with vendored() as library:
        (finding,) = audit(library.helper, (torch.ones(3),)).findings
    assert (finding.owner, finding.called_from) == ("vendored", "")


def test_only_findings_of_some_owners_are_reported() -> None:
    report = in_package()
    mine = Finding("graph-break", "mine", file="model.py", line=1, owner="yours")
    nowhere = Finding("nothing-compiled", "no graph was compiled")
    report = replace(report, findings=(*report.findings, mine, nowhere))
    results = Results((CaseResult("case", report),), "2.13.0")
    assert owners.only(results, []) == results
    (case,) = owners.only(results, ["yours"]).cases
    assert case.report.findings == (mine, nowhere)
    assert case.report.notes == ("findings left out by --owner: 1 in vendored",)
    assert owners.only(results, ["yours", "vendored"]) == results


def test_projects_are_not_packages(tmp_path: Path) -> None:
    """An editable installation leaves metadata beside the code, without a record of files."""
    info = tmp_path / "project.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: project\nVersion: 1.0\n")
    (info / "SOURCES.txt").write_text("project/model.py\n")
    assert owner_of(str(tmp_path / "project" / "model.py")) == "yours"
    assert owner_of("project/model.py") == "yours"
