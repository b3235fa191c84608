"""What identifies a finding: the same in other places, processes, folders and on other machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compile_checks._engine.findings import Finding
from compile_checks._engine.results import Identity, identity
from tests.compile_checks.install import ROOT

PROGRAM = """
import torch


def mode_given(x, mode):
    return x.sin() * 2 if mode == "a" else x.cos()


mode_given.example_inputs = lambda: [(torch.ones(3), "a"), (torch.ones(3), "b")]


def function_given():
    def apply(h, x):
        return h(x) * 2

    return apply, lambda: [((lambda t: t.sin()), torch.ones(2)), ((lambda t: t.cos()), torch.ones(2))]


def nothing_to_compile():
    return (lambda n: n + 1), (3,)
"""
TARGETS = ("mode_given", "function_given", "nothing_to_compile")


def run(folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Audits a program in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.py").write_text(program)
    targets = [f"program.py::{name}" for name in TARGETS]
    command = [sys.executable, "-m", "compile_checks", *targets, "--backend", "eager", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_baseline_survives_moved_lines_and_another_folder(tmp_path: Path) -> None:
    baseline = str(tmp_path / "baseline.json")
    accept = ("--update-baseline", "--reason", "for now", "--expires", "2999-12-31")
    first = run(tmp_path / "here", PROGRAM, "--baseline", baseline, *accept)
    assert first.returncode == 0, first.stdout + first.stderr
    kinds = sorted(entry["kind"] for entry in json.loads(Path(baseline).read_text())["findings"])
    assert kinds == ["nothing-compiled", "recompile", "recompile"]

    moved = PROGRAM.replace("import torch", "import torch\n\n# a comment\n")
    again = run(tmp_path / "elsewhere" / "deeper", moved, "--baseline", baseline)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 known findings" in again.stdout

    changed = PROGRAM.replace("x, mode)", "x, way)").replace("if mode", "if way")
    other = run(tmp_path / "here", changed, "--baseline", baseline)
    assert other.returncode == 1, other.stdout + other.stderr


SAME = {
    "ids of functions": (
        "___check_obj_id(h.__code__, 140603291158928)",
        "___check_obj_id(h.__code__, 94516324105504)",
    ),
    "short ids of types": ("___check_type_id(f(x, y), 9745216)", "___check_type_id(f(x, y), 98)"),
    "addresses": ("<function f at 0x7f01>", "<function f at 0x7fff2>"),
    "compilations": ("0/1: x == 2", "3/0_1: x == 2"),
    "lines": ("raised at model.py:8 in f", "raised at model.py:11 in f"),
    "lines in words": ("see line 8", "see line 311"),
    "absolute paths": ("no /home/me/project/data.bin", "no /builds/42/project/data.bin"),
    "paths on Windows": ("no C:\\Users\\me\\data.bin", "no D:\\ci\\data.bin"),
    "shortened paths": ("in mp/a1/model.py:8", "in oject/model.py:9"),
    "differences": ("off by 1.5e-3", "off by 2.25"),
}
OTHER = {
    "numbers of an input": ("x.size()[0] == 3", "x.size()[0] == 4"),
    "dimensions": ("mismatch at index 0", "mismatch at index 1"),
    "arguments": ("___check_obj_id(h, 140603291158928)", "___check_obj_id(g, 140603291158928)"),
    "names of files": ("no /home/me/data.bin", "no /home/me/model.bin"),
    "counts": ("2 graphs", "3 graphs"),
}


@pytest.mark.parametrize("field", ["reason", "guard"])
@pytest.mark.parametrize(("one", "two"), SAME.values(), ids=SAME)
def test_what_a_run_or_machine_determines_is_left_out(one: str, two: str, field: str) -> None:
    first, second = (_identity(**{field: text}) for text in (one, two))
    assert first == second


@pytest.mark.parametrize("field", ["reason", "guard"])
@pytest.mark.parametrize(("one", "two"), OTHER.values(), ids=OTHER)
def test_what_the_code_determines_stays(one: str, two: str, field: str) -> None:
    first, second = (_identity(**{field: text}) for text in (one, two))
    assert first != second


def _identity(**fields: str) -> Identity:
    return identity("case", Finding(**{"kind": "recompile", "reason": "0/0: ...", **fields}))


def test_a_recompile_is_its_guard_whatever_was_compiled_before() -> None:
    texts = "0/0: mode == 'a'", "0/1: mode == 'a'; 0/0: x.size()[0] == 3"
    first, second = (_identity(reason=text, guard="mode == 'a'") for text in texts)
    assert first == second


def test_files_are_relative_to_their_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for copy in ("one", "two/deeper"):
        project = tmp_path / copy
        (project / "models").mkdir(parents=True)
        (project / "pyproject.toml").touch()
        for here in (project, project / "models", tmp_path):
            monkeypatch.chdir(here)
            file = str(project / "models" / "net.py")
            found.add(identity("case", Finding("graph-break", "x", file=file)).file)
            case = os.path.relpath(file, here) + "::net"
            found.add(identity(case, Finding("nothing-compiled", "x")).case.partition("::")[0])
    assert found == {"models/net.py"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("", ""),
        (os.__file__, "os.py"),
        ("/opt/lib/python3.12/site-packages/einops/einops.py", "einops/einops.py"),
        ("/tmp/ipykernel_4711/3405691582.py", "<notebook>"),
        ("<ipython-input-3-0a1b2c>", "<notebook>"),
        ("/nowhere/at/all/script.py", "script.py"),
        ("model.py", "model.py"),
    ],
)
def test_files_outside_a_project(file: str, expected: str) -> None:
    assert identity("case", Finding("graph-break", "x", file=file)).file == expected
