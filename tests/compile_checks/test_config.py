"""The table `[tool.compile_checks]`: lookup, validation and required names."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compile_checks import __main__
from compile_checks.command import config
from compile_checks.command.config import ConfigError
from compile_checks.command.plan import Options, Plan, Target
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
    assert config.nearest(Path.cwd()).targets == (Target("m:f"),)


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
        targets = tuple(Target(f"{name}.py::cases") for name in order)
        plan = Plan(targets, required="registry:required")
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


# ------------------------------------------------------------------ options

OPTIONS = """\
[tool.compile_checks]
backend = "eager"
ignore = ["mismatch"]
targets = [
    "m:f",
    { target = "m:g", backend = "inductor", budget = 2, ignore = ["recompile"], backward = true },
]
"""


def test_a_target_may_have_options_of_its_own(project: Path) -> None:
    (project / "pyproject.toml").write_text(OPTIONS)

    shared, own = config.nearest(project).targets

    assert shared == Target("m:f", Options(backend="eager", ignore=("mismatch",)))
    assert own == Target(
        "m:g",
        Options(backward=True, backend="inductor", budget=2, ignore=("recompile", "mismatch")),
    )


BREAKS = """\
import torch

def breaks(x):
    torch._dynamo.graph_break()
    return x * 2

breaks.example_inputs = (torch.ones(3),)

def raises():
    raise RuntimeError("no")
"""


@pytest.mark.parametrize("extra", [[], ["--jobs", "2"]])
def test_findings_of_ignored_kinds_do_not_count(
    extra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model_with_break.py").write_text(BREAKS)
    target = "model_with_break.py::breaks"
    Path("pyproject.toml").write_text(
        f'[tool.compile_checks]\ntargets = [{{ target = "{target}", ignore = ["graph-break"] }}]'
    )

    assert __main__.main(extra) == 0
    out = capsys.readouterr().out
    assert "ignored: model_with_break.py:4: graph-break: " in out
    assert "[findings of this kind are ignored]" in out
    assert __main__.main([target, *extra]) == 1  # the table does not apply
    assert __main__.main([target, *extra, "--ignore", "graph-break"]) == 0
    assert __main__.main([target, *extra, "--ignore", "recompile"]) == 1
    assert __main__.main(["model_with_break.py::raises", *extra, "--ignore", "error"]) == 0


def test_the_command_line_replaces_options_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sized.py").write_text(SIZED)
    Path("pyproject.toml").write_text(
        '[tool.compile_checks]\nbudget = 1\ntargets = ["sized.py::sized"]\n'
    )

    assert __main__.main([]) == 1
    assert __main__.main(["--budget", "2"]) == 0


SIZED = """\
import torch

def double(x):
    return x * 2

def sized():
    return double, [(torch.ones(3),), (torch.ones(4),)]
"""


def test_a_path_may_match_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths of the table are relative to its file."""
    inner = tmp_path / "models" / "more"
    inner.mkdir(parents=True)
    for number, folder in enumerate((inner, inner.parent, inner.parent)):
        (folder / f"wild_{number}.py").write_text(MODEL.replace('"double"', f'"double {number}"'))
    (tmp_path / "pyproject.toml").write_text(
        '[tool.compile_checks]\ntargets = ["models/**/wild_*.py::cases"]\n'
    )
    (inner.parent / "wild_3.py").write_text("cases_of_others = []\n")
    monkeypatch.chdir(inner)

    assert __main__.main([]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows if row[:1] == ["double"]] == ["0", "1", "2"]

    assert __main__.main(["wild_[1-9].py::cases"]) == 2
    expected = f"wild_[1-9].py::cases: no file in {inner} matches wild_[1-9].py\n"
    assert capsys.readouterr().err == f"compile_checks: error: {expected}"

    assert __main__.main(["wild_*.py::case"]) == 2
    expected = "wild_*.py::case: no file that matches wild_*.py contains 'case'\n"
    assert capsys.readouterr().err == f"compile_checks: error: {expected}"


def test_the_pre_commit_hook_runs_the_command(project: Path) -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert re.search(r"^- id: compile-checks$", hook, re.MULTILINE)
    entry = re.search(r"^  entry: python (.*)$", hook, re.MULTILINE)
    assert entry is not None

    done = subprocess.run(
        [sys.executable, *entry[1].split(), "--jobs", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.endswith("\n3 cases, 1 failed\n"), done.stderr


# ------------------------------------------------------------------ errors

KEYS = "mode, dynamic, backward, backend, budget, max_entries, max_guards, max_seconds, time, gates, ignore"
ENTRIES = 'expected strings and tables such as { target = "model.py::Model", budget = 2 }'
ONE = "targets = ['m:f']\n"


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
        (
            "target = ['m:f']",
            f"unknown key 'target' (did you mean 'targets'?); expected one of targets, required, {KEYS}\n",
        ),
        ("targets = 'm:f'", "'targets': expected a list, got 'm:f'\n"),
        ("targets = ['m:f', 3]", f"'targets': {ENTRIES}, got 3\n"),
        ("targets = [{budget = 2}]", f"'targets': {ENTRIES}, got {{'budget': 2}}\n"),
        (
            "targets = [{target = 'm:f', targets = 3}]",
            f"m:f: unknown key 'targets' (did you mean 'target'?); expected one of target, {KEYS}\n",
        ),
        (f"{ONE}budget = 0", "'budget': expected a positive integer, got 0\n"),
        (f"{ONE}budget = true", "'budget': expected a positive integer, got True\n"),
        (f"{ONE}backend = 'nope'", "'backend': unknown backend 'nope'; expected one of "),
        (f"{ONE}backend = 3", "'backend': unknown backend '3'; expected one of "),
        (f"{ONE}ignore = 'recompile'", "'ignore': expected a list, got 'recompile'\n"),
        (f"{ONE}ignore = ['recompiles']", "'ignore': expected one of "),
        (
            "targets = [{target = 'm:f', ignore = ['recompiles']}]",
            "m:f: 'ignore': expected one of ",
        ),
        (f"{ONE}ignore = [['recompile']]", "'ignore': expected one of "),
        (f"{ONE}gates = ['pt3']", "'gates': expected one of "),
        (f"{ONE}backward = 1", "'backward': expected true or false, got 1\n"),
        (
            f"{ONE}mode = 'full'",
            "'mode': expected one of default, fullgraph, all, got 'full' (did you mean 'fullgraph'?)\n",
        ),
        ("targets = ['m:f']\nrequired = ['m:g']", "'required': expected a string, got ['m:g']"),
        ("required = 'm:g'", "nothing to audit: 'targets' is empty. Name a target, for example\n"),
        ("targets = []", "nothing to audit: 'targets' is empty. Name a target, for example\n"),
    ],
)
def test_a_wrong_table_names_the_key_and_the_file(table: str, said: str, project: Path) -> None:
    file = project / "pyproject.toml"
    file.write_text(f"[tool.compile_checks]\n{table}\n")

    assert f"{error(project)}\n".startswith(f"{file}: [tool.compile_checks]: {said}")


def test_a_misspelled_value_has_a_suggestion(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.compile_checks]\ntargets = ['m:f']\nignore = ['recompiles']\n"
    )

    assert error(project).endswith(", got 'recompiles' (did you mean 'recompile'?)")


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
