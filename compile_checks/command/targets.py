"""Loads a target: `path/to/file.py::name` or `package.module:name`.

The name is a function, a `torch.nn.Module` (an instance, or a class that needs no arguments) or a
factory: a function that needs no arguments and returns `(callable, inputs)` or a list of cases. A
case in that list is such a pair, a `Case`, or a mapping with the fields of one. Targets other than
factories get their inputs from `example_inputs`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from glob import glob
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from compile_checks._engine.audit import check_callable
from compile_checks._engine.case import Case
from compile_checks._engine.state import seed
from compile_checks.command.inputs import calls_of, example_inputs, required_parameters
from compile_checks.command.mappings import case_of
from compile_checks.command.modules import (
    FORMS,
    TargetError,
    UserCodeError,
    guarded,
    imported,
    is_pair,
    offers,
    similar,
)

__all__ = ["TargetError", "UserCodeError", "definition", "expanded", "load", "load_names"]


_WILDCARD = re.compile(r"[*?[]")


def expanded(target: str, root: Path = Path()) -> list[str]:
    """Returns a target for each file that its path matches, in order: `models/*.py::audited`.

    Files without the name, such as `__init__.py`, are left out.

    Raises:
        TargetError: if no file matches, or none has the name.
    """
    where, separator, name = target.partition("::")
    if not _WILDCARD.search(where):
        return [target]
    pattern = os.path.join(root, where)
    files = [os.path.relpath(file, root) for file in sorted(glob(pattern, recursive=True))]
    if not files:
        raise TargetError(f"{target}: no file in {root.absolute()} matches {where}")
    if name:
        files = [file for file in files if _mentions(root / file, name)]
    if not files:
        raise TargetError(f"{target}: no file that matches {where} contains {name!r}")
    return [Path(file).as_posix() + separator + name for file in files]


def _mentions(file: Path, name: str) -> bool:
    """True if a file contains a name, as a whole word. The file is not imported."""
    return re.search(rf"\b{re.escape(name)}\b", file.read_text("utf-8", "replace")) is not None


def load(target: str, root: Path = Path()) -> list[Case]:
    """Returns the cases of a target: one case, or all cases of a list.

    Args:
        root: the folder that paths are relative to, and the first folder to search for modules.

    Raises:
        TargetError: if the file, module or name does not exist, if importing or calling it fails,
            if it cannot be audited, or if its inputs are unknown.
    """
    seed()  # so that random weights are the same in each process
    module, found = _find(target, root)
    cases = _resolved(target, found, module)
    try:
        for case in cases:
            check_callable(case.fn)
    except TypeError as error:
        raise TargetError(f"{target}: {error}") from None
    return cases


def load_names(source: str, root: Path = Path()) -> tuple[str, ...]:
    """Returns the required names from a callable.

    Raises:
        TargetError: if it cannot be loaded or called, or does not return strings.
    """
    _, found = _find(source, root)
    if not callable(found):
        raise TargetError(
            f"{source}: expected a callable that returns names, got {type(found).__name__}"
        )
    names = guarded(f"{source}() raised", found)
    if isinstance(names, Iterable) and not isinstance(names, str):
        listed = tuple(names)
        if all(isinstance(name, str) for name in listed):
            return listed
    raise TargetError(f"{source}() returned {names!r}; expected a list of strings")


def _find(target: str, root: Path) -> tuple[ModuleType, Any]:
    """Returns the module of a target and the object that its name refers to."""
    where, name = _split(target)
    module = imported(where, root)
    if not name:
        raise TargetError(f"{target}: expected {FORMS}; {offers(module)}")
    if not hasattr(module, name):
        raise TargetError(f"{target}: there is no {name!r}{similar(name, module)}")
    return module, getattr(module, name)


def _split(target: str) -> tuple[str, str]:
    """Returns the file or module, and the name, which may be empty."""
    where, separator, name = target.partition("::")
    if not separator and not target.endswith(".py"):
        where, separator, name = target.partition(":")
    if not where or (name and not name.isidentifier()):
        raise TargetError(f"{target}: expected {FORMS}")
    return where, name


def _resolved(target: str, found: Any, module: ModuleType) -> list[Case]:
    if inspect.isclass(found):
        found = _instance(target, found)
    if _may_be_factory(found, module):
        made = guarded(f"{target}() raised", found)
        _check_made(target, made, module)
        if not (isinstance(made, list) or is_pair(made) or callable(made)):
            return [Case(target, found, [((), {})])]
        found = made
    if isinstance(found, list):
        return _listed(target, found)
    if is_pair(found):
        fn, inputs = found
        return [Case(target, fn, calls_of(target, inputs))]
    if not callable(found):
        raise TargetError(
            f"{target}: expected a function, a torch.nn.Module or a factory, "
            f"got {type(found).__name__}"
        )
    return [Case(target, found, example_inputs(target, found, module))]


def _may_be_factory(found: Any, module: ModuleType) -> bool:
    """True for a function that can be called without arguments, unless it has inputs to audit."""
    if not inspect.isfunction(found) or required_parameters(found):
        return False
    return not (inspect.signature(found).parameters and _has_inputs(found, module))


def _has_inputs(found: Any, module: ModuleType) -> bool:
    return hasattr(found, "example_inputs") or hasattr(module, "example_inputs")


def _check_made(target: str, made: Any, module: ModuleType) -> None:
    """Rejects malformed results of a factory. Other values may come from a plain function."""
    if callable(made) and not _has_inputs(made, module):
        what = f"a {type(made).__name__} without inputs"
        raise TargetError(f"{target}() returned {what}; expected {_FACTORY}")
    almost = isinstance(made, tuple) and made and callable(made[0]) and not is_pair(made)
    if almost or inspect.isgenerator(made):
        what = f"a tuple of {len(made)}" if almost else "a generator"
        raise TargetError(f"{target}() returned {what}; expected {_FACTORY}")
    if isinstance(made, Mapping) and any(callable(value) for value in made.values()):
        raise TargetError(f"{target}() returned a mapping; expected {_FACTORY}")


_FACTORY = "(callable, inputs) or a list of cases"


def _instance(target: str, found: type) -> Any:
    if not issubclass(found, torch.nn.Module):
        raise TargetError(f"{target}: expected a torch.nn.Module, got class {found.__name__}")
    if required := required_parameters(found):
        raise TargetError(
            f"{target}: {found.__name__}({', '.join(required)}) requires arguments. "
            f"Write a factory and pass its name instead:\n"
            f"    def audited():\n        return {found.__name__}(...), (x,)  # model, inputs"
        )
    return guarded(f"{target}() raised", found)


def _listed(target: str, items: list[Any]) -> list[Case]:
    cases: list[Case] = []
    for number, item in enumerate(items):
        where = f"{target}[{number}]"
        if isinstance(item, Case):
            cases.append(item)
        elif is_pair(item):
            cases.append(Case(where, item[0], calls_of(target, item[1])))
        elif isinstance(item, Mapping):
            cases.append(case_of(item, where, calls_of))
        else:
            raise TargetError(
                f"{where}: expected a Case, (callable, inputs) or a mapping, "
                f"got {type(item).__name__}"
            )
    if not cases:
        raise TargetError(f"{target}: expected at least one case, got an empty list")
    return cases


def definition(fn: Callable[..., Any]) -> tuple[str, int]:
    """Returns the file and line that define a callable, or `("", 0)` if unknown."""
    source = type(fn) if isinstance(fn, torch.nn.Module) else inspect.unwrap(fn)
    try:
        return inspect.getsourcefile(source) or "", inspect.getsourcelines(source)[1]
    except (OSError, TypeError):
        return "", 0
