"""Runs the recipes in `examples/audit/` and checks what their page says about them."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from compile_checks._engine.results import Results
from compile_checks.command import diff
from compile_checks.command.arguments import parse
from compile_checks.outputs import json
from tests.compile_checks.install import ROOT

FOLDER = ROOT / "examples" / "audit"
SECTIONS = (ROOT / "docs" / "audit-recipes.md").read_text().split("\n## ")
READ = "2.13.0"
AS_READ = torch.__version__.partition("+")[0] == READ
"""Other releases may find something else in a changed recipe."""

ENVIRONMENT = {"PYTHONPATH": str(ROOT), "GITHUB_ACTIONS": "", "OMP_NUM_THREADS": "1"}
BLOCK = re.compile(r"^```(?:python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```console\n\$ python ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGE = re.compile(r"^\| (`.*→.*) \| `(.*)` \| `(.*)` \|$", re.MULTILINE)
ONE_CHANGE = re.compile(r"`([^`]+)` →(?: `([^`]+)`)?")
GLOO = re.compile(r"^\[Gloo\] .*\n", re.MULTILINE)
"""What torch 2.9 prints when processes have connected."""
MATRIX = re.compile(r"\$\{\{ matrix\.(\w+) \}\}")


def in_page(pattern: re.Pattern[str]) -> list[Any]:
    """Returns the matches of a pattern, each with the file that its section is about."""
    matches: list[Any] = []
    for section in SECTIONS:
        found = re.search(r"`examples/audit/(\w+\.\w+)`:$", section, re.MULTILINE)
        for number, match in enumerate(pattern.findall(section)):
            assert found is not None
            skipped = found[1] == "generate.py" and find_spec("transformers") is None
            marks = pytest.mark.skipif(skipped, reason="needs the extra [transformers]")
            values = (match,) if isinstance(match, str) else match
            name = f"{Path(found[1]).stem}-{number}"
            matches.append(pytest.param(found[1], *values, marks=marks, id=name))
    return matches


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def run_rank(recipe: dict[str, Any], folder: Path) -> None:
    """Runs the only rank of a distributed recipe, which is faster than to start a process."""
    if "RANKS" in recipe:
        recipe["run"](0, folder / "store")


def check(command: str, expected: str) -> None:
    status, out, errors = run(*shlex.split(command))
    out = GLOO.sub("", out)
    same = doctest.OutputChecker().check_output(expected, out, doctest.ELLIPSIS)
    assert (status, same) == (0, True), f"status {status}\n{out}\n{errors}"


def test_every_recipe_is_on_the_page_and_runs() -> None:
    files = {file.name for file in FOLDER.iterdir() if file.is_file()}
    assert files == {param.values[0] for param in in_page(BLOCK)}
    assert {param.values[1] for param in in_page(COMMAND)} >= {
        f"examples/audit/{file}" for file in files if file.endswith(".py")
    }


@pytest.mark.parametrize(("file", "block"), in_page(BLOCK))
def test_the_page_quotes_the_recipe(file: str, block: str) -> None:
    assert f"\n{block}" in (FOLDER / file).read_text()


@pytest.mark.parametrize(("file", "command", "expected"), in_page(COMMAND))
def test_a_recipe_is_clean(file: str, command: str, expected: str) -> None:
    check(command, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not AS_READ, reason=f"read with torch {READ}")
@pytest.mark.parametrize(("file", "cell", "counts", "finding"), in_page(CHANGE))
def test_a_changed_recipe_has_the_finding(
    file: str,
    cell: str,
    counts: str,
    finding: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = (FOLDER / file).read_text().replace("RANKS = 2", "RANKS = 1")
    for before, after in ONE_CHANGE.findall(cell):
        assert before in code
        code = code.replace(before, after)
    (tmp_path / file).write_text(code)
    torch.compiler.reset()
    with pytest.raises(AssertionError):
        run_rank(runpy.run_path(str(tmp_path / file)), tmp_path)
    out = capfd.readouterr().out
    assert f"{counts}:" in out
    assert re.search(rf"{re.escape(finding)}>?$", out, re.MULTILINE), out


def test_the_checks_above_see_a_break(tmp_path: Path) -> None:
    code = (FOLDER / "trainer_loop.py").read_text()
    line = '        self.log("train_loss", loss)\n'
    assert line in code
    branch = f"        if loss.item() > 0:\n    {line}"
    (tmp_path / "broken.py").write_text(code.replace(line, branch))
    with pytest.raises(AssertionError, match=r"status 1\n.*\n.*broken\.py:2\d: graph-break: "):
        check(f"{tmp_path / 'broken.py'}", "...")


def commands(file: Path) -> Iterator[list[str]]:
    """Yields the arguments of each command of the audit in a workflow."""
    yaml = pytest.importorskip("yaml", reason="pyyaml comes with the extra [transformers]")
    for job in yaml.safe_load(file.read_text())["jobs"].values():
        for values in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
            for step in job["steps"]:
                text = MATRIX.sub(lambda name, values=values: values[name[1]], step.get("run", ""))
                if "compile_checks" in text:
                    python, m, module, *arguments = shlex.split(text.partition("||")[0])
                    assert (python, m, module) == ("python", "-m", "compile_checks")
                    yield arguments


@pytest.mark.parametrize(
    ("file", "number"), [("workflow.yml", 2), ("nightly.yml", 3)], ids=["workflow", "nightly"]
)
def test_the_commands_of_a_workflow_are_valid(
    file: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [*commands(FOLDER / file)]
    assert len(found) == number
    for arguments in found:
        if arguments[0] == "diff":
            assert diff.main(arguments[1:]) == 0  # of the reports written before
            continue
        parsed = parse(arguments)
        assert parsed.watch or parsed.target
        if parsed.json:
            parsed.json.write_text(json.render(Results((), READ)))


def test_a_workflow_uploads_what_its_commands_write() -> None:
    text = (FOLDER / "workflow.yml").read_text()
    written = re.findall(r"--sarif (\S+)", text)
    assert written == re.findall(r"sarif_file: (\S+)", text) == ["model.sarif", "training.sarif"]
