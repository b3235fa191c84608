"""dmask's cases for the audit, and the graph budgets of its helpers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from compile_checks import __main__, audit_calls
from compile_checks.command.plan import Plan, Target
from dmask import audit_cases

ROOT = Path(__file__).parent.parent
TARGET, REQUIRED = "dmask.audit_cases:cases", "dmask.audit_cases:required"


@pytest.fixture
def unaudited() -> Iterator[str]:
    """Registers a strategy that has no case."""

    @dmask.register_strategy("unaudited")
    def strategy(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
        return attention_bias > 0

    yield "unaudited"
    dmask.unregister_strategy("unaudited")


def covered() -> set[str]:
    return {case.get("covers", "") for case in audit_cases.cases()}


def test_all_of_dmask_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "audit.json"
    names = [case["name"] for case in audit_cases.cases()]

    assert __main__.main(["--json", str(file)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "graphs", "breaks", "recompiles", "result"]
    assert lines[-1] == f"{len(names)} cases, none failed"
    assert all(len(line) <= 80 for line in lines)
    document = json.loads(file.read_text())
    assert document["ok"] is True
    assert document["torch"] == torch.__version__
    assert [case["name"] for case in document["cases"]] == names
    assert all(case["graphs"] >= 1 for case in document["cases"])
    assert all(case["notes"] == [] for case in document["cases"])


def test_case_names_are_unique() -> None:
    names = [case["name"] for case in audit_cases.cases()]
    assert len(set(names)) == len(names)


def test_what_is_registered_is_covered() -> None:
    assert {*audit_cases.required()} <= covered()
    assert {"op create_mask", "strategy topk"} <= {*audit_cases.required()}


def test_a_registered_strategy_without_a_case_is_a_finding(
    unaudited: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = [f"op {unaudited}_mask", f"strategy {unaudited}"]
    assert sorted({*audit_cases.required()} - covered()) == missing

    one = [case for case in audit_cases.cases() if case["name"] == "helper relu_mask"]
    monkeypatch.setattr(audit_cases, "cases", lambda: one)
    assert __main__.main([TARGET, "--required", REQUIRED]) == 1

    out = capsys.readouterr().out
    assert f"\nstrategy {unaudited} " in out
    said = f"missing-case: no case covers strategy {unaudited}, which {REQUIRED} requires"
    assert said in " ".join(out.split())


def test_one_command_audits_an_installed_dmask(tmp_path: Path) -> None:
    """Runs the README's command in a folder that has no pyproject.toml."""
    (tmp_path / "sitecustomize.py").write_text(
        "from dmask import audit_cases\n"
        "cases = audit_cases.cases\n"
        "audit_cases.cases = lambda: [c for c in cases() if c['name'].startswith('op relu_mask')]\n"
        "audit_cases.required = lambda: ['op relu_mask', 'op none']\n"
    )
    command = f"-m compile_checks {TARGET} --required {REQUIRED}"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / "docs" / "audit.md").read_text()

    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith("\n4 cases, 1 failed\n")
    assert "missing-case: no case covers op none" in " ".join(done.stdout.split())


def test_the_table_of_this_project_names_the_cases() -> None:
    from compile_checks.command import config

    table = config.nearest(ROOT)

    assert (table.file, table.required) == (ROOT / "pyproject.toml", REQUIRED)
    assert table.targets == (Target(TARGET),)
    assert len(Plan(table.targets).tasks()) == len(audit_cases.cases())


def imported(folder: str) -> set[str]:
    """Returns the packages that the files in a folder import, at any level."""
    names: set[str] = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_the_audit_does_not_know_dmask() -> None:
    assert "dmask" not in imported("compile_checks")
    assert "torch" in imported("compile_checks")
    for file in (ROOT / "compile_checks").rglob("*.py"):
        assert "dmask" not in file.read_text(), file


def test_only_the_demo_uses_the_audit() -> None:
    users = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "dmask").rglob("*.py")
        if "compile_checks" in {n.partition(".")[0] for n in _modules(file)}
    ]

    assert users == ["dmask/__main__.py"]


def _modules(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return names | {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}


# ------------------------------------------------------------------ the budget of dmask's helpers

KEY_LENS = (8, 12, 16, 17, 24, 40)


def growing(masked: bool) -> list[Any]:
    """Returns calls to `create_mask` for decoding, in which the number of keys grows past 16."""
    return [
        ((torch.rand(2, 2, 1, n), torch.ones(2, n) > 0 if masked else None, 2, 1, n, 16), {})
        for n in KEY_LENS
    ]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dynamic", "graphs"), [(None, 2), (True, 1)])
def test_create_mask_keeps_its_budget(dynamic: bool | None, graphs: int, masked: bool) -> None:
    report = audit_calls(dmask.create_mask, growing(masked), dynamic=dynamic, max_graphs=graphs)

    assert report.ok, report
    assert report.graphs == graphs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dynamic", "graphs"), [(None, 3), (True, 2)])
def test_maybe_create_mask_costs_one_more(dynamic: bool | None, graphs: int, masked: bool) -> None:
    def attend(bias: Tensor, *args: Any) -> Tensor:
        mask = dmask.maybe_create_mask(bias, *args)
        return bias + 1 if mask is None or mask.dim() == 2 else bias * mask

    report = audit_calls(attend, growing(masked), dynamic=dynamic, max_graphs=graphs)

    assert report.ok, report
    assert report.graphs == graphs
