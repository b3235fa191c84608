"""Imports the file or module of a target, and lists what can be audited in it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch

from compile_checks._engine.findings import Finding
from compile_checks.rules import error as errors

_T = TypeVar("_T")

_HERE = str(Path(__file__).parent.parent)
FORMS = "path/to/file.py::name or package.module:name"


class TargetError(Exception):
    """Raised for a target that cannot be audited. The command prints it without a traceback."""


class UserCodeError(TargetError):
    """Raised if the code of a target raises before it can be audited, which is a finding."""

    def __init__(self, message: str, finding: Finding) -> None:
        super().__init__(message)
        self.finding = finding


def imported(where: str, root: Path = Path()) -> ModuleType:
    """Imports a file or a module.

    Args:
        where: a path that ends in `.py`, or the name of a module.
        root: the folder that paths are relative to, and the first folder to search for modules.

    Raises:
        TargetError: if it does not exist, or if importing it fails.
    """
    if where.endswith(".py"):
        path = (root / where).resolve()
        if not path.is_file():
            raise TargetError(f"{where}: no such file{'' if root == Path() else f' in {root}'}")
        return guarded(f"cannot import {where}", _import_file, path)
    if not all(part.isidentifier() for part in where.split(".")):
        raise TargetError(f"{where}: expected {FORMS}")
    folder = str(root.resolve())
    is_on_path = folder in sys.path or (root == Path() and "" in sys.path)
    if not is_on_path:
        sys.path.insert(0, folder)
    top = where.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        raise TargetError(
            f"{where}: no module named {top!r}. Install it (`pip install -e .`), "
            "or pass the path of the file"
        )
    return guarded(f"cannot import {where}", importlib.import_module, where)


def _import_file(path: Path) -> ModuleType:
    """Imports a file. In a package it is imported as a submodule, so that relative imports work."""
    root, name = path.parent, path.stem
    while (root / "__init__.py").is_file():
        root, name = root.parent, f"{root.name}.{name}"
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # as Python does when it runs the file
    if "." in name:
        return importlib.import_module(name)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None:
        name = f"audited_{name}"  # a user's `json.py`, for example
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no loader for {path.suffix} files")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def guarded(doing: str, function: Callable[..., _T], *args: Any) -> _T:
    """Calls the user's code.

    Raises:
        UserCodeError: if the code raises. The message shows only the user's frames.
    """
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        stack = traceback.extract_tb(error.__traceback__)
        own = [f for f in stack if not f.filename.startswith((_HERE, "<frozen", "<string>"))]
        while own and own[0].filename == importlib.__file__:
            del own[0]
        lines = traceback.format_list(own) + traceback.format_exception_only(error)
        message = f"{doing}:\n{''.join(lines).rstrip()}"
        raise UserCodeError(message, errors.finding(error)) from None


def similar(name: str, module: ModuleType) -> str:
    """Returns the end of a message about a missing name: a suggestion and the available names."""
    close = difflib.get_close_matches(name, _offered(module), n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f" in {module.__name__}{guess}; {offers(module)}"


def offers(module: ModuleType) -> str:
    """Returns a text that lists the names in a module that can be audited."""
    names = _offered(module)
    return f"it contains: {', '.join(names)}" if names else "it contains nothing to audit"


def _offered(module: ModuleType) -> list[str]:
    """Returns the public names that are defined in a module and can be audited."""
    return [name for name, value in vars(module).items() if _is_offer(name, value, module)]


def _is_offer(name: str, value: Any, module: ModuleType) -> bool:
    if name.startswith("_") or name == "example_inputs":
        return False
    if isinstance(value, torch.nn.Module):
        return True
    own = getattr(value, "__module__", None) == module.__name__
    if inspect.isclass(value):
        return own and issubclass(value, torch.nn.Module)
    return (own and callable(value)) or is_pair(value)


def is_pair(value: Any) -> bool:
    """True for `(callable, inputs)`."""
    return isinstance(value, tuple) and len(value) == 2 and callable(value[0])
