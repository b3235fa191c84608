"""Finds the line to show for a stack, and the owner of the code that failed."""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import PurePath
from traceback import FrameSummary, extract_tb
from types import FrameType
from typing import Any

from compile_checks._engine.findings import YOURS, Finding

_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_PYTHON = tuple(
    path + os.sep for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name))
)
_PACKAGES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Place:
    """A line of code."""

    file: str
    line: int
    source: str
    owner: str
    """The owner of the innermost frame, where the code failed. `line` may be in an outer frame."""

    def of(self, finding: Finding) -> Finding:
        """Returns a copy of the finding with this place."""
        return replace(
            finding, file=self.file, line=self.line, source=self.source, owner=self.owner
        )


def owner_of(file: str) -> str:
    """Returns `"torch"`, `"python"` (its standard library), an installed package, or `"yours"`.

    >>> import json, torch
    >>> owner_of(torch.nn.__file__), owner_of(json.__file__), owner_of("model.py")
    ('torch', 'python', 'yours')
    >>> owner_of("/usr/lib/python3/site-packages/einops/einops.py")
    'einops'
    """
    if file.startswith(_torch()):
        return "torch"
    path = PurePath(file)
    for folder in _PACKAGES:
        if folder in path.parts[:-1]:
            return path.parts[path.parts.index(folder) + 1].removesuffix(".py")
    if file.startswith((*_PYTHON, "<frozen ")):
        return "python"
    for parent in path.parents:
        top = path.relative_to(parent).parts[0].removesuffix(".py")
        if top in _installed_in(str(parent)):
            return top
    return YOURS


@functools.cache
def _installed_in(folder: str) -> frozenset[str]:
    """Returns the packages that `pip install --target` or a similar command put in a folder."""
    if not os.path.isabs(folder):
        return frozenset()
    recorded = (found.read_text("RECORD") or "" for found in distributions(path=[folder]))
    files = (line.partition(",")[0] for record in recorded for line in record.splitlines())
    return frozenset(file.partition("/")[0].removesuffix(".py") for file in files)


@functools.cache
def _torch() -> str:
    """Returns the directory of torch without importing it: reading reports does not need torch."""
    spec = find_spec("torch")
    return "torch" + os.sep if spec is None else os.path.dirname(spec.origin or "") + os.sep


def place_of(traced: Sequence[FrameSummary]) -> Place:
    """Returns the innermost traced line, or the caller's, outside torch and the standard library.

    Args:
        traced: the frames that Dynamo traced, innermost last.
    """
    owner = owner_of(traced[-1].filename) if traced else ""
    frame = _innermost(traced) or _caller() or (traced[-1] if traced else None)
    if frame is None:
        return Place("", 0, "", owner)
    return place_at(frame.filename, frame.lineno or 0, owner)


def called_from(traced: Sequence[FrameSummary], place: Place) -> str:
    """Returns your line that leads to a place in a library, as `file:line`; `""` if there is none.

    Args:
        traced: the frames that Dynamo traced, innermost last.
    """
    if not place.file or owner_of(place.file) == YOURS:
        return ""
    for frame in reversed([*_callers(), *traced]):
        if frame.filename.startswith(_HERE):
            break  # what lies below called the audit
        if owner_of(frame.filename) == YOURS:
            return f"{frame.filename}:{frame.lineno}"
    return ""


def traced_line(traced: Sequence[FrameSummary]) -> tuple[str, int]:
    """Returns the file and line of `place_of` if no caller counts.

    It depends only on what Dynamo traced. `place_of` also depends on when it is called: it finds
    the caller of torch's own code, such as `Optimizer.step`, only while Dynamo compiles that code.
    """
    frame = _innermost(traced) or (traced[-1] if traced else None)
    return ("", 0) if frame is None else (frame.filename, frame.lineno or 0)


def guarded_line(places: Sequence[tuple[str, int]], frame: str) -> tuple[str, int]:
    """Returns the first of some places that is outside torch and the standard library.

    Args:
        places: files and lines. Dynamo shortens some paths to their last parts.
        frame: the file of the compiled frame, which a shortened path probably means.
    """
    for file, line in places:
        found = _whole_path(file, frame)
        if found and not is_library(found):
            return found, line
    return "", 0


def _whole_path(file: str, frame: str) -> str:
    if os.path.isabs(file):
        return file
    if frame.endswith(file):  # torch 2.9 may cut within the name of a folder
        return frame
    loaded = (getattr(module, "__file__", None) or "" for module in list(sys.modules.values()))
    return next((path for path in loaded if path.endswith(os.sep + file)), "")


def place_of_error(error: BaseException) -> Place:
    """Returns the place where traced or running code raised an exception."""
    traced: Sequence[FrameSummary] | None = getattr(error, "real_stack", None)
    ran = [f for f in extract_tb(error.__traceback__) if not f.filename.startswith(_HERE)]
    return place_of(traced or ran)


def place_of_code(fn: Callable[..., Any]) -> Place:
    """Returns the first line of a function or a module's `forward`; an empty place for C code."""
    import torch

    called: Any = type(fn).forward if isinstance(fn, torch.nn.Module) else fn
    while isinstance(called, functools.partial):
        called = called.func
    code = getattr(inspect.unwrap(called), "__code__", None)
    return place_at(code.co_filename, code.co_firstlineno) if code else place_at("", 0)


def place_at(file: str, line: int, owner: str = "") -> Place:
    """Returns the place of a line number."""
    source = linecache.getline(file, line).strip()
    return Place(file, line, source, owner or (owner_of(file) if file else ""))


def _innermost(frames: Sequence[FrameSummary]) -> FrameSummary | None:
    return next((f for f in reversed(frames) if not is_library(f.filename)), None)


def is_library(file: str) -> bool:
    """True for the code of torch and the standard library."""
    return owner_of(file) in ("torch", "python")


def _caller() -> FrameSummary | None:
    """Returns the frame that called into Dynamo, or None if the audit itself did."""
    found = _innermost(_callers())
    return None if found is None or found.filename.startswith(_HERE) else found


def calling_line() -> tuple[str, int]:
    """Returns the file and line that called into Dynamo; an empty file if the audit itself did."""
    frame = _caller()
    return ("", 0) if frame is None else (frame.filename, frame.lineno or 0)


def _callers() -> list[FrameSummary]:
    """Returns the frames that led to Dynamo, innermost last."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith(_torch()):
        frame = frame.f_back  # out of the audit and `logging`
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append(
            FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False)
        )
        frame = frame.f_back
    return frames[::-1]
