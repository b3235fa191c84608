"""The command `python -m compile_checks`: exit status, table, JSON, and a case for all there is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import dmask
from compile_checks import AuditReport, Case, __main__
from compile_checks.cases import builtin_cases, uncovered
from tests.audit_samples import breaks


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that the command runs, to be filled by a test; all registered ops count as covered."""
    chosen: list[Case] = []
    monkeypatch.setattr(__main__, "builtin_cases", lambda: chosen)
    monkeypatch.setattr(__main__, "uncovered", lambda cases: ())
    return chosen


@pytest.fixture
def unaudited() -> Iterator[str]:
    """A registered strategy without a case."""

    @dmask.register_strategy("unaudited")
    def strategy(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
        return attention_bias > 0

    yield "unaudited"
    dmask.unregister_strategy("unaudited")


def clean() -> Case:
    return Case("clean", torch.nn.ReLU(), [((torch.ones(3),), {})])


def broken(name: str = "item") -> Case:
    return Case(f"broken {name}", getattr(breaks, name), [((torch.ones(3),), {})])


def test_all_of_dmask_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "audit.json"

    assert __main__.main(["--json", str(file)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "graphs", "breaks", "recompiles", "result"]
    assert lines[-1] == f"{len(builtin_cases())} cases, none failed"
    assert all(len(line) <= 80 for line in lines)
    document = json.loads(file.read_text())
    assert document["ok"] is True
    assert document["torch"] == torch.__version__
    assert [case["name"] for case in document["cases"]] == [case.name for case in builtin_cases()]
    assert all(case["graphs"] >= 1 for case in document["cases"])


def test_case_names_are_unique() -> None:
    names = [case.name for case in builtin_cases()]
    assert len(set(names)) == len(names)


def test_a_finding_exits_with_1_and_is_shown(
    cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases += [clean(), broken(), broken("twice")]
    file = tmp_path / "audit.json"

    assert __main__.main(["--json", str(file)]) == 1

    out = capsys.readouterr().out
    assert "\nclean                                                 1      0          0 ok\n" in out
    assert (
        "\nbroken item                                           2      1          0 FAIL\n" in out
    )
    place = f"tests/audit_samples/breaks.py:{breaks.item.__code__.co_firstlineno + 1}"
    assert f"{place}: graph-break:" in " ".join(out.split())
    assert out.count("(3 times)") == 1
    assert out.endswith("\n3 cases, 2 failed\n")
    document = json.loads(file.read_text())
    assert document["ok"] is False
    expected = broken().run()
    assert document["cases"][1] == {"name": "broken item", **json.loads(dumped(expected))}
    assert document["cases"][1]["graph_breaks"][0]["source"].startswith("return x * x.sum()")


def dumped(audited: AuditReport) -> str:
    return json.dumps(audited.as_dict())


def test_a_case_that_raises_does_not_stop_the_others(
    cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(x: Tensor) -> Tensor:
        raise ValueError("x must be something else\nand more")

    cases += [Case("raises", fails, [((torch.ones(3),), {})]), clean()]

    assert __main__.main([]) == 1

    out = capsys.readouterr().out
    assert "  error: ValueError: x must be something else\nclean " in out


def test_what_is_registered_is_covered() -> None:
    assert uncovered(builtin_cases()) == ()


def test_a_registered_strategy_without_a_case_is_a_finding(
    unaudited: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert uncovered(builtin_cases()) == (f"op {unaudited}_mask", f"strategy {unaudited}")

    monkeypatch.setattr(__main__, "builtin_cases", list)
    assert __main__.main([]) == 1

    out = capsys.readouterr().out
    assert f"\nstrategy {unaudited} " in out
    assert f"missing-case: no case in compile_checks/cases.py covers strategy {unaudited}" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--jsno", "x"], "unrecognized arguments: --jsno x"),
        (["--json"], "argument --json: expected one argument"),
        (["--json", "no/such/directory/audit.json"], "argument --json: "),
    ],
)
def test_wrong_usage_exits_with_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        __main__.main(argv)

    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_in_a_fresh_process() -> None:
    command = [sys.executable, "-m", "compile_checks", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("usage: python -m compile_checks [-h] [--json FILE]")
    assert "Exit status: 0" in done.stdout
