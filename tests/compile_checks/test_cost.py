"""What breaks and compiled functions cost, and limits on that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compile_checks import AuditReport, Limits, Step, __main__, audit, audit_calls, watch
from compile_checks._engine.costs import Frame
from compile_checks._engine.judge import _sum

X = torch.ones(3)


def two_parts(x: Tensor) -> Tensor:
    x = x.sin().cos() + 1
    torch._dynamo.graph_break()
    return x * 2


def double(x: Tensor) -> Tensor:
    return x * 2


def sizes(**options: Any) -> AuditReport:
    calls = [Step((X,)), Step((torch.ones(4),), recompiles=1)]
    return audit_calls(double, calls, backend="eager", **options)


def frame(report: AuditReport, name: str) -> Frame:
    (found,) = (frame for frame in report.frames if frame.name == name)
    return found


def test_a_break_knows_the_graphs_on_both_sides() -> None:
    report = audit(two_parts, (X,), backend="eager")

    (found,) = report.graph_breaks
    assert (found.ops_before, found.ops_after) == (3, 1)
    (finding,) = report.findings
    assert finding.cost == "3 ops in the graph before it, 1 in the next"
    assert "\n    cost: 3 ops in the graph before it, 1 in the next" in finding.full_text()


def test_the_seconds_of_a_frame_are_rounded_after_they_are_added() -> None:
    parts = [Frame("f", "f.py", 1, seconds=seconds) for seconds in (0.1, 0.2)]

    assert _sum(*parts).seconds == 0.3


def test_a_break_before_any_op_and_a_break_at_the_end() -> None:
    def at_the_start(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x * 2

    def at_the_end(x: Tensor) -> Tensor:
        x = x * 2
        torch._dynamo.graph_break()
        return x

    assert audit(at_the_end, (X,), backend="eager").findings[0].cost == (
        "1 op in the graph before it, 0 in the next"
    )
    for fn, sides in ((at_the_start, (0, 1)), (at_the_end, (1, 0))):
        (found,) = audit(fn, (X,), backend="eager").graph_breaks
        assert (found.ops_before, found.ops_after) == sides


def test_frames_count_ops_guards_and_compilations() -> None:
    report = audit(two_parts, (X,), backend="eager")
    first = frame(report, "two_parts")
    line = two_parts.__code__.co_firstlineno

    assert (first.file, first.line, first.entries, first.graphs, first.ops) == (
        __file__,
        line,
        1,
        1,
        3,
    )
    assert first.guards > 0
    assert 0 < first.seconds < 100
    assert [f.ops for f in report.frames if f != first] == [1]
    assert [f.seconds for f in report.frames] == sorted(f.seconds for f in report.frames)[::-1]


def test_entries_of_a_function_add_up() -> None:
    once, twice = frame(audit(double, (X,), backend="eager"), "double"), frame(sizes(), "double")

    assert (twice.entries, twice.graphs, twice.ops) == (2, 2, 2)
    assert twice.guards > once.guards


def test_a_function_without_a_graph_has_no_frame() -> None:
    assert audit(torch.nn.Identity(), (X,), backend="eager").frames == ()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(entries=1), "double: compiled 2 times, at most 1 allowed"),
        (Limits(guards=1), " guards, at most 1 allowed"),
        (Limits(seconds=1e-9), " s to compile, at most 1e-09 allowed"),
    ],
)
def test_what_exceeds_a_limit_is_a_finding_at_the_function(limits: Limits, said: str) -> None:
    report = sizes(limits=limits)

    (finding,) = report.findings
    assert finding.kind == "cost-budget"
    assert finding.reason.endswith(said)
    assert (finding.file, finding.line) == (__file__, double.__code__.co_firstlineno)


def test_limits_that_are_kept() -> None:
    guards = frame(sizes(), "double").guards
    assert sizes(limits=Limits(entries=2, guards=guards, seconds=100)).ok
    assert not sizes(limits=Limits(guards=guards - 1)).ok


def test_a_watch_has_limits_too() -> None:
    torch.compiler.reset()
    with watch(limits=Limits(guards=1)) as watched:
        torch.compile(double, backend="eager")(X)

    assert [finding.kind for finding in watched.report().findings] == ["cost-budget"]
    assert watched.report().frames[0].name == "double"


MODEL = """\
import torch

def double(x):
    return x * 2

def sized():
    return double, [(torch.ones(3),), (torch.ones(4),)]
"""


@pytest.fixture
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("costly.py").write_text(MODEL)


@pytest.mark.usefixtures("_project")
def test_the_command_shows_frames_and_reports_them(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["costly.py::sized", "--budget", "2", "--json", "report.json"]

    assert __main__.main([*base, "--frames"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "frame: costly.py:3: double: compiled 2 times, 2 ops, " in out
    assert __main__.main(base) == 0
    assert "frame:" not in capsys.readouterr().out
    (reported,) = json.loads(Path("report.json").read_text())["cases"][0]["frames"]
    assert (reported["name"], reported["entries"], reported["ops"]) == ("double", 2, 2)


TABLES = {
    "command": """targets = ["costly.py::sized"]""",
    "table": """targets = ["costly.py::sized"]
{key} = {value}""",
    "target": """targets = [{{ target = "costly.py::sized", {key} = {value} }}]""",
}
"""The table of a project, by where the limit is."""


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("where", TABLES)
@pytest.mark.parametrize(
    ("key", "low", "high"),
    [("max_entries", "1", "2"), ("max_guards", "1", "999"), ("max_seconds", "0.00001", "999")],
)
def test_limits_of_the_command_and_the_table(where: str, key: str, low: str, high: str) -> None:
    for value, status in ((low, 1), (high, 0)):
        table = TABLES[where].format(key=key, value=value)
        Path("pyproject.toml").write_text(f"[tool.compile_checks]\n{table}\n")
        option = [f"--{key.replace('_', '-')}", value] if where == "command" else []

        assert __main__.main(["--budget", "2", *option]) == status
