"""`--watch` runs a program as `python` does, and reports what it compiled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import sys
    import torch
    import beside

    @torch.compile(backend="eager")
    def step(x):
        torch._dynamo.graph_break()
        return x + 1

    if __name__ == "__main__":
        print("arguments", sys.argv[1:], "of", sys.argv[0])
        for _ in range(2):
            step(torch.ones(3))
        beside.end(sys.argv[-1], step)
"""
BESIDE = """
    import logging.config
    import os
    import sys
    import threading
    import time
    import torch
    from concurrent.futures import ThreadPoolExecutor

    def end(how, step):
        if how == "raise":
            raise ValueError("bad batch")
        if how == "exit":
            sys.exit(7)
        if how == "message":
            sys.exit("gave up")
        if how == "leave":
            os._exit(3)
        if how == "wait":
            print("waiting", flush=True)
            time.sleep(60)
        if how == "thread":
            threading.Thread(target=lambda: (time.sleep(0.5), step(torch.ones(3, 3)))).start()
        if how == "pool":
            threading.pool = ThreadPoolExecutor(1)  # a pool that lives until the end, as Inductor's
            threading.pool.submit(lambda: (time.sleep(0.5), step(torch.ones(3, 3))))
        if how == "logs":
            logging.config.dictConfig({"version": 1})
            step(torch.ones(3, 3))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "beside.py").write_text(textwrap.dedent(BESIDE))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(textwrap.dedent(PROGRAM))
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "compile_checks", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def findings(folder: Path, *program: str) -> tuple[int, list[tuple[Any, ...]]]:
    file = folder / "report.json"
    status, _, errors = run(folder, "--json", str(file), "--watch", *program)
    (case,) = json.loads(file.read_text())["cases"]
    found = [(f["kind"], Path(f["file"]).name, f["line"]) for f in case["findings"]]
    return status, [case["name"], found, errors, case["notes"]]


BREAK = ("graph-break", "train.py", 8)


def test_a_program_has_its_arguments_and_its_folder(folder: Path) -> None:
    status, out, _ = run(folder.parent, "--watch", f"{folder.name}/train.py", "--lr", "3")
    assert status == 1
    assert f"arguments ['--lr', '3'] of {folder.name}/train.py" in out
    assert f"{folder.name}/train.py:8: graph-break: " in out


def test_a_module_runs_with_m(folder: Path) -> None:
    status, (name, found, _, _) = findings(folder, "-m", "package", "--lr")
    assert (status, name, found) == (1, "package", [("graph-break", "__main__.py", 8)])


def test_a_package_is_watched_while_it_is_imported(folder: Path) -> None:
    (folder / "package" / "__init__.py").write_text(
        "import torch\n"
        "def early(x):\n"
        "    torch._dynamo.graph_break()\n"
        "    return x + 1\n"
        "torch.compile(early, backend='eager')(torch.ones(3))\n"
    )
    (folder / "package" / "part.py").write_text("print('part')\n")
    status, (name, found, _, _) = findings(folder, "-m", "package.part")
    assert (status, name, found) == (1, "package.part", [("graph-break", "__init__.py", 3)])


@pytest.mark.parametrize(
    ("end", "more"),
    [("raise", [("error", "beside.py", 12)]), ("exit", []), ("message", []), ("leave", []), ("logs", []), ("thread", []), ("pool", [])],
)  # fmt: skip
def test_a_program_is_reported_however_it_ends(
    folder: Path, end: str, more: list[tuple[Any, ...]]
) -> None:
    status, (_, found, errors, _) = findings(folder, "train.py", end)
    recompiled = [("recompile", "train.py", 8)] if end in ("logs", "thread", "pool") else []
    assert (status, found) == (1, [BREAK, *recompiled, *more])
    if end == "raise":
        assert "ValueError: bad batch" in errors
        assert "runpy" not in errors
    if end == "message":
        assert errors.rstrip().endswith("gave up")


@pytest.mark.parametrize(
    ("end", "status"), [("", 0), ("exit", 7), ("message", 1), ("leave", 1), ("raise", 1)]
)
def test_without_findings_the_status_is_the_programs(folder: Path, end: str, status: int) -> None:
    clean = (folder / "train.py").read_text().replace("torch._dynamo.graph_break()", "pass")
    (folder / "train.py").write_text(clean)
    assert run(folder, "--watch", "train.py", end)[0] == status


def test_an_interrupt_ends_the_program_and_not_the_report(folder: Path) -> None:
    watching = command("--watch", "train.py", "wait")
    with subprocess.Popen(
        watching,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        # Shells let jobs in the background ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line == "waiting\n")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 1
    assert "train.py:8: graph-break" in rest
    assert "note: the program was interrupted" in rest


def test_a_budget_allows_recompiles(folder: Path) -> None:
    source = (folder / "train.py").read_text()
    source = source.replace("torch._dynamo.graph_break()", "pass").replace(
        "step(torch.ones(3))", "step(torch.ones(3 + _))"
    )
    (folder / "train.py").write_text(source)
    assert run(folder, "--watch", "train.py")[0] == 1
    assert run(folder, "--budget", "2", "--watch", "train.py")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--watch", "missing.py"], "--watch: no such file: missing.py"),
        (["--watch", "-m", "missing.part"], "--watch: no module named missing.part"),
        (["--watch"], "argument --watch: expected FILE ARGS... or -m MODULE ARGS..."),
        (["--watch", "-m"], "argument --watch: expected FILE ARGS... or -m MODULE ARGS..."),
        (["--jobs", "2", "--watch", "train.py"], "argument --jobs: not allowed with --watch"),
        (["model.py::f", "--watch", "train.py"], "argument target: not allowed with --watch"),
    ],
)
def test_what_cannot_be_watched_is_a_usage_error(
    folder: Path, arguments: list[str], message: str
) -> None:
    status, out, errors = run(folder, *arguments)
    assert (status, out) == (2, "")
    assert message in errors
