"""Imports the file or module of a target, and tells what it offers."""

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

_T = TypeVar("_T")

_HERE = str(Path(__file__).parent.parent)
FORMS = "path/to/file.py::name or package.module:name"


class TargetError(Exception):
    """The user's error. Its text is all there is to say."""


def imported(where: str) -> ModuleType:
    """A path that ends in `.py`, or the name of a module.

    Raises:
        TargetError: where there is none, or where importing it fails.
    """
    if where.endswith(".py"):
        path = Path(where).resolve()
        if not path.is_file():
            raise TargetError(f"{where}: there is no such file")
        return guarded(f"cannot import {where}", _import_file, path)
    if not all(part.isidentifier() for part in where.split(".")):
        raise TargetError(f"{where}: expected {FORMS}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return guarded(f"cannot import {where}", importlib.import_module, where)


def _import_file(path: Path) -> ModuleType:
    """A file of a package is imported as a part of it, so that its relative imports work."""
    root, name = path.parent, path.stem
    while (root / "__init__.py").is_file():
        root, name = root.parent, f"{root.name}.{name}"
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # as when Python runs the file
    if "." in name:
        return importlib.import_module(name)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None:
        name = f"audited_{name}"  # such as a `json.py`
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"nothing here loads {path.suffix} files")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def guarded(doing: str, function: Callable[..., _T], *args: Any) -> _T:
    """Calls into the user's code. Its error is told with its own frames, not with the tool's."""
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        stack = traceback.extract_tb(error.__traceback__)
        own = [f for f in stack if not f.filename.startswith((_HERE, "<frozen", "<string>"))]
        while own and own[0].filename == importlib.__file__:
            del own[0]
        lines = traceback.format_list(own) + traceback.format_exception_only(error)
        raise TargetError(f"{doing}:\n{''.join(lines).rstrip()}") from None


def similar(name: str, module: ModuleType) -> str:
    close = difflib.get_close_matches(name, _offered(module), n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f" in {module.__name__}{guess}; {offers(module)}"


def offers(module: ModuleType) -> str:
    names = _offered(module)
    return f"it offers: {', '.join(names)}" if names else "it offers nothing to audit"


def _offered(module: ModuleType) -> list[str]:
    """The public names that were made in this module and can be audited."""
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
    """Whether it is `(callable, inputs)`."""
    return isinstance(value, tuple) and len(value) == 2 and callable(value[0])
