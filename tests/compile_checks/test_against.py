"""`--against-torch`: the same run with another interpreter."""

from __future__ import annotations

import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from compile_checks import __main__
from compile_checks.command import against
from compile_checks.command.against import AgainstError

MODEL = """\
import os
import torch

def doubled(x):
    if "ANOTHER_RELEASE" in os.environ:
        torch._dynamo.graph_break()
    return x * 2

doubled.example_inputs = (torch.ones(3),)
"""
TARGET = "versioned.py::doubled"


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("versioned.py").write_text(MODEL)


def interpreter(line: str) -> str:
    """Writes a program that stands for the interpreter of another release."""
    file = Path("python").absolute()
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
    return str(file)


def test_the_same_release_differs_in_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([TARGET, "--against-torch", sys.executable]) == 0

    out = capsys.readouterr().out
    assert out.endswith("\n1 case, none failed\n\nfindings: 0 new, 0 gone, 0 moved\n")


def test_findings_that_are_new_there_count(capsys: pytest.CaptureFixture[str]) -> None:
    """Options that say how to audit apply there too."""
    other = interpreter(f'ANOTHER_RELEASE=1 exec {sys.executable} "$@"')

    assert __main__.main([TARGET, "--against-torch", other]) == 1
    out = capsys.readouterr().out
    assert "\n1 case, none failed\n\nnew    versioned.py:6: graph-break: Call to " in out
    assert out.endswith(
        "counts versioned.py::doubled: graph breaks 0 -> 1\nfindings: 1 new, 0 gone, 0 moved\n"
    )

    backend = ["--backend", "eager", "--mode", "fullgraph", "--gate", "pt2", "--backward"]
    assert __main__.main([TARGET, *backend, "--against-torch", other]) == 1
    out = capsys.readouterr().out
    assert "counts versioned.py::doubled: graphs 1 -> 0, graph breaks 0 -> 1\n" in out


def test_a_run_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    other = interpreter("echo there is no torch >&2; exit 1")

    assert __main__.main([TARGET, "--against-torch", other]) == 2
    assert capsys.readouterr().err.endswith(
        f"compile_checks: error: the run with {other} failed:\nthere is no torch\n"
    )


def test_an_interrupt_ends_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    other = interpreter("kill -INT $PPID; sleep 9")
    # Shells let jobs in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert __main__.main([TARGET, "--against-torch", other]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.endswith("compile_checks: interrupted\n")


def test_a_release_is_installed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupted installation is not used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(venv, "create", create_without_pip)
    installed, status = [], 1
    run = subprocess.run

    def install(command: list[str], **options: Any) -> Any:
        if "pip" not in command:
            return run(command, **options)
        installed.append(command[1:])
        return run([sys.executable, "-c", f"raise SystemExit({status})"], check=False)

    monkeypatch.setattr(subprocess, "run", install)
    with pytest.raises(AgainstError, match=r"^torch 9\.9\.9 cannot be installed$"):
        against._installed("9.9.9")
    status = 0
    python = against._installed("9.9.9")
    assert against._installed("9.9.9") == python

    assert installed == [["-m", "pip", "install", "--quiet", "torch==9.9.9"]] * 2
    assert capsys.readouterr().err.count("installing torch 9.9.9 in ") == 2
    monkeypatch.undo()
    found = subprocess.check_output(
        [python, "-c", "import torch; print(torch.__file__)"], text=True
    )
    assert found.strip() == sys.modules["torch"].__file__  # the packages of this environment


def create_without_pip(folder: Path, **options: Any) -> None:
    venv.EnvBuilder(clear=True, with_pip=False, symlinks=True).create(folder)
