"""Repeats a run with another release of PyTorch: `--against-torch 2.15.0`.

The release is installed once into an environment of its own, which also sees the packages of this
one. A path of another interpreter works as well, if it has this package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from compile_checks._engine.results import Results
from compile_checks.outputs import json

_VALUES = ("required", "mode", "dynamic", "backend", "budget", "jobs", "timeout")
_LIMITS = ("max-entries", "max-guards", "max-seconds")
_FLAGS = ("backward", "isolate")
_LISTS = ("gate", "ignore", "owner")
_PACKAGES = Path(sysconfig.get_path("purelib"))
_COMPLETE = "complete"
"""A file that marks an environment whose installation was not interrupted."""


class AgainstError(Exception):
    """Raised if the other release cannot be installed, or its run fails."""


def results_of(release: str, arguments: Namespace) -> Results:
    """Returns the results of the same run with another release, or another interpreter.

    Raises:
        AgainstError: if there is no such release, or its run fails.
    """
    python = release if Path(release).is_file() else str(_installed(release))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [python, "-m", "compile_checks", *_options(arguments), "--json", str(report)]
        done = subprocess.run(
            command,
            env=_environment(),
            stdout=subprocess.DEVNULL,  # the table; differences are printed instead
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not report.is_file():
            raise AgainstError(f"the run with {release} failed:\n{done.stderr.strip()}")
        return json.read(report.read_text(encoding="utf-8"))


def _options(arguments: Namespace) -> Iterator[str]:
    """Yields the arguments that say what to audit and how, but not what to write."""
    given = vars(arguments)
    for name in (*_VALUES, *_LIMITS):
        value = given[name.replace("-", "_")]
        if value is not None:
            yield from (f"--{name}", str(value))
    yield from (f"--{name}" for name in _FLAGS if given[name])
    for name in _LISTS:
        for value in given[name]:
            yield from (f"--{name}", value)
    yield from arguments.target


def _environment() -> dict[str, str]:
    """Returns the environment variables of the run. A checkout of this package is on the path, but
    never this environment's packages: its PyTorch would come first.
    """
    root = Path(__file__).parents[2]
    if root == _PACKAGES:
        return {**os.environ}
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def _installed(release: str) -> Path:
    """Returns the interpreter of an environment with a release. Creates it if there is none."""
    version = ".".join(map(str, sys.version_info[:2]))
    folder = _cache() / f"torch-{release}-python-{version}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / _COMPLETE).exists():
        return python
    print(f"installing torch {release} in {folder}; this may take minutes", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    found = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    # Its own packages come first, then those of this environment.
    Path(found.strip(), "packages_of_the_project.pth").write_text(f"{_PACKAGES}\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", f"torch=={release}"]
    if subprocess.run(pip, stdout=sys.stderr, check=False).returncode:
        shutil.rmtree(folder)
        raise AgainstError(f"torch {release} cannot be installed")
    (folder / _COMPLETE).touch()
    return python


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "compile_checks")
