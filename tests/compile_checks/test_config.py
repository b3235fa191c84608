"""The table `[tool.compile_checks]`: lookup, validation and required names."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compile_checks import __main__
from compile_checks.command import config
from compile_checks.command.config import ConfigError
from compile_checks.command.plan import Plan
from compile_checks.command.targets import TargetError, load_names
from tests.compile_checks.install import ROOT

TABLE = """\
[project]
name = "stranger"

[tool.compile_checks]
targets = ["src/model.py::cases", "stranger_lib:step"]
required = "stranger_lib.py::required"
"""
MODEL = """\
import torch

def double(x):
    return x * 2

def cases():
    return [{"name": "double", "fn": double, "inputs": torch.ones(3), "covers": "op double"}]
"""
LIBRARY = """\
import torch

def step(x):
    return x + 1

step.example_inputs = (torch.ones(3),)

def required():
    return ["op double", "op triple"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project. The working directory is a folder inside it."""
    folder = tmp_path / "project"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(TABLE)
    (folder / "src" / "model.py").write_text(MODEL)
    (folder / "stranger_lib.py").write_text(LIBRARY)
    monkeypatch.chdir(folder / "src" / "deep")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for name in ("model", "stranger_lib"):
        sys.modules.pop(name, None)


def error(folder: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        config.nearest(folder)
    return str(raised.value)


# ------------------------------------------------------------------ projects


def test_the_bare_command_audits_the_project(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([]) == 1

    out = " ".join(capsys.readouterr().out.split())
    assert "missing-case: no case covers op triple, which stranger_lib.py::required requires" in out
    assert " double 1 0 0 ok " in out
    assert " stranger_lib:step 1 0 0 ok " in out
    assert out.endswith("3 cases, 1 failed")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_project_never_imports_dmask(project: Path, tmp_path: Path, jobs: str) -> None:
    """Importing the module raises, in worker processes too."""
    (tmp_path / "dmask.py").write_text("raise ImportError('dmask was imported')\n")
    command = [sys.executable, "-m", "compile_checks", "--jobs", jobs]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith("\n3 cases, 1 failed\n")
    assert "missing-case" in done.stdout
    assert "dmask" not in done.stderr


def test_targets_on_the_command_line_replace_the_table(project: Path) -> None:
    model = str(project / "src" / "model.py")

    assert __main__.main([f"{model}::cases"]) == 0  # `required` of the table does not apply
    os.chdir(project)
    assert __main__.main([f"{model}::cases", "--required", "stranger_lib:required"]) == 1


def test_required_on_the_command_line_replaces_that_of_the_table(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its path is relative to the working directory; paths in the table, to the table's file."""
    Path("names.py").write_text("def names():\n    return {'op double'}\n")

    assert __main__.main(["--required", "names.py::names"]) == 0
    assert capsys.readouterr().out.endswith("2 cases, none failed\n")


def test_the_nearest_table_counts(project: Path) -> None:
    """A pyproject.toml without the table is skipped."""
    (project / "src" / "pyproject.toml").write_text("[project]\nname = 'part'\n")
    assert config.nearest(Path.cwd()).file == project / "pyproject.toml"

    (project / "src" / "pyproject.toml").write_text("[tool.compile_checks]\ntargets = ['m:f']\n")
    assert config.nearest(Path.cwd()).targets == ("m:f",)


# ------------------------------------------------------------------ what must be covered

REGISTERING = """\
import torch
import registry

registry.names.append("op {0}")

def cases():
    return [dict(name="{0}", fn=torch.sin, inputs=torch.ones(3), covers="op {1}")]
"""


@pytest.mark.parametrize("order", [*itertools.permutations("abc")])
def test_missing_cases_do_not_depend_on_the_order(
    order: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each module registers a name when it is imported, and the case of another covers it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("registry.py").write_text("names = []\ndef required():\n    return [*names, 'op d']\n")
    for name, covers in zip("abc", "bca", strict=True):
        Path(f"{name}.py").write_text(REGISTERING.format(name, covers))
    try:
        plan = Plan(tuple(f"{name}.py::cases" for name in order), required="registry:required")
        missing = plan.missing(plan.tasks())
    finally:
        for name in ("registry", *order):
            sys.modules.pop(name, None)

    assert [case.name for case in missing] == ["op d"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("'op a'", "names() returned 'op a'; expected a list of strings"),
        ("3", "names() returned 3; expected a list of strings"),
        ("['op a', 3]", "names() returned ['op a', 3]; expected a list of strings"),
        ("1 / 0", "names() raised:\n"),
    ],
)
@pytest.mark.usefixtures("project")
def test_names_that_are_no_strings(returned: str, said: str) -> None:
    Path("odd.py").write_text(f"def names():\n    return {returned}\n")
    try:
        with pytest.raises(TargetError) as raised:
            load_names("odd.py::names")
    finally:
        sys.modules.pop("odd")

    assert str(raised.value).startswith(f"odd.py::{said}")


@pytest.mark.usefixtures("project")
def test_required_names_something_that_is_not_callable() -> None:
    Path("odd.py").write_text("names = 3\n")
    try:
        with pytest.raises(TargetError) as raised:
            load_names("odd.py::names")
    finally:
        sys.modules.pop("odd")

    assert str(raised.value) == "odd.py::names: expected a callable that returns names, got int"


# ------------------------------------------------------------------ errors


def test_without_a_table_the_error_shows_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert __main__.main([]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "compile_checks: error: nothing to audit. Name a target, for example\n"
        "    python -m compile_checks model.py::Model\n"
        "or list the targets of the project in its pyproject.toml:\n"
        "    [tool.compile_checks]\n"
        '    targets = ["model.py::Model"]\n'
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("target = ['m:f']", "unknown key 'target'; expected one of targets, required"),
        ("targets = 'm:f'", "'targets': expected a list of strings, got 'm:f'"),
        ("targets = ['m:f', 3]", "'targets': expected a list of strings, got ['m:f', 3]"),
        ("targets = ['m:f']\nrequired = ['m:g']", "'required': expected a string, got ['m:g']"),
        ("required = 'm:g'", "nothing to audit: 'targets' is empty. Name a target, for example\n"),
        ("targets = []", "nothing to audit: 'targets' is empty. Name a target, for example\n"),
    ],
)
def test_a_wrong_table_names_the_key_and_the_file(table: str, said: str, project: Path) -> None:
    file = project / "pyproject.toml"
    file.write_text(f"[tool.compile_checks]\n{table}\n")

    assert error(project).startswith(f"{file}: [tool.compile_checks]: {said}")


def test_a_file_that_is_no_toml(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").write_text("[tool\n")

    assert error(project).startswith(f"{project / 'pyproject.toml'}: ")
    assert __main__.main([]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_something_else_than_a_table(project: Path) -> None:
    file = project / "pyproject.toml"
    file.write_text("[tool]\ncompile_checks = 3\n")

    assert error(project) == f"{file}: [tool.compile_checks]: expected a table, got 3"


def test_a_target_of_the_table_that_does_not_exist(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pyproject.toml").write_text("[tool.compile_checks]\ntargets = ['nope.py::f']\n")

    assert __main__.main([]) == 2
    assert capsys.readouterr().err == (
        f"compile_checks: error: nope.py: no such file in {project}\n"
    )
