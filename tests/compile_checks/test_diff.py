"""`diff` compares two JSON reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from expecttest import assert_expected_inline

from compile_checks import AuditReport, Finding
from compile_checks.__main__ import main
from compile_checks._engine.results import CaseResult, Known, Results
from compile_checks.outputs import json

BREAK = Finding("graph-break", "Data-dependent branching", file="model.py", line=7, source="if x:")
SIZE = Finding("recompile", "size of x", file="model.py", line=3, source="def f(x):", count=2)
LOST = Finding("fallback", "a frame was left", file="lib.py", line=9, source="return a")


def case(*findings: Finding, name: str = "model.py::f", graphs: int = 1, **more: Any) -> CaseResult:
    return CaseResult(name, AuditReport(graphs, findings=findings), **more)


def diff(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    old: list[CaseResult],
    new: list[CaseResult],
    torch: str = "2.13.0",
) -> tuple[int, str]:
    files = folder / "old.json", folder / "new.json"
    for file, cases, release in zip(files, (old, new), ("2.13.0", torch), strict=True):
        file.write_text(json.render(Results(tuple(cases), release)))
    status = main(["diff", *map(str, files)])
    return status, capsys.readouterr().out


def test_what_is_new_gone_moved_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = replace(BREAK, line=12)
    more = replace(SIZE, count=5)
    old = [case(BREAK, SIZE, LOST), case(name="left")]
    new = [case(moved, more, graphs=4), case(name="added")]
    status, text = diff(tmp_path, capsys, old, new, torch="2.15.0")
    assert status == 1
    assert_expected_inline(
        text,
        """\
new    model.py:3: recompile: size of x (5 times), before 2 times
gone   lib.py:9: fallback: a frame was left
moved  model.py:7 -> model.py:12: graph-break: Data-dependent branching
counts model.py::f: graphs 1 -> 4
counts left: no longer a case
counts added: new case
torch 2.13.0 -> 2.15.0
findings: 1 new, 1 gone, 1 moved
""",
    )


@pytest.mark.parametrize(
    ("old", "new", "status", "last"),
    [
        ([case(BREAK)], [case(BREAK)], 0, "findings: 0 new, 0 gone, 0 moved"),
        ([case()], [case(BREAK)], 1, "findings: 1 new, 0 gone, 0 moved"),
        ([case(BREAK)], [case()], 0, "findings: 0 new, 1 gone, 0 moved"),
        ([case(SIZE)], [case(replace(SIZE, count=1))], 0, "findings: 0 new, 1 gone, 0 moved"),
        # the same line twice in a file, and then once more
        ([case(BREAK)], [case(BREAK, replace(BREAK, line=9))], 1, "findings: 1 new, 0 gone, 0 moved"),
        # two cases that share a place
        ([case(BREAK)], [case(BREAK), case(BREAK, name="g")], 0, "findings: 0 new, 0 gone, 0 moved"),
        # accepted by a baseline meanwhile
        (
            [case(BREAK)],
            [case(known=(Known(BREAK, "waits", "2027-01-31"),))],
            0,
            "findings: 0 new, 0 gone, 0 moved",
        ),
    ],
)  # fmt: skip
def test_the_status_says_whether_something_is_new(
    old: list[CaseResult],
    new: list[CaseResult],
    status: int,
    last: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, text = diff(tmp_path, capsys, old, new)
    assert (found, text.splitlines()[-1]) == (status, last)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema_version": "9.0"}', '{"schema_version": "1.0"}']
)
def test_what_is_no_report_is_a_usage_error(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    for other in (file, tmp_path / "missing.json"):
        with pytest.raises(SystemExit, match="2"):
            main(["diff", str(other), str(file)])
        assert f"error: {other}: " in capsys.readouterr().err
