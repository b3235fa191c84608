"""Loads what a command line names, `path/to/file.py::name` or `package.module:name`, to audit it.

A name stands for a function, a `torch.nn.Module` (a class that needs no arguments, or an instance)
or a factory: a function without parameters that returns `(callable, inputs)` or a list of cases.
What is no factory takes its inputs from `example_inputs`, see `_example_inputs`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from compile_checks._engine.audit import check_callable
from compile_checks._engine.case import Case
from compile_checks._engine.scenarios import Call, Calls, Step, steps_of
from compile_checks._engine.state import seed
from compile_checks.command.modules import (
    FORMS,
    TargetError,
    guarded,
    imported,
    is_pair,
    offers,
    similar,
)

__all__ = ["TargetError", "definition", "load"]


def load(target: str) -> list[Case]:
    """The cases that a target stands for: one, or those of its list.

    Raises:
        TargetError: where there is no such file, module or name, where importing or calling it
            fails, where it is nothing to audit, or where its inputs are not known.
    """
    where, name = _split(target)
    seed()  # random weights are the same in each process
    module = imported(where)
    if not name:
        raise TargetError(f"{target}: expected {FORMS}; {offers(module)}")
    if not hasattr(module, name):
        raise TargetError(f"{target}: there is no {name!r}{similar(name, module)}")
    cases = _resolved(target, getattr(module, name), module)
    try:
        for case in cases:
            check_callable(case.fn)
    except TypeError as error:
        raise TargetError(f"{target}: {error}") from None
    return cases


def _split(target: str) -> tuple[str, str]:
    """Where to look, a path that ends in `.py` or a module, and the name, which may be missing."""
    where, separator, name = target.partition("::")
    if not separator and not target.endswith(".py"):
        where, separator, name = target.partition(":")
    if not where or (name and not name.isidentifier()):
        raise TargetError(f"{target}: expected {FORMS}")
    return where, name


# ------------------------------------------------------------------ what a name stands for


def _resolved(target: str, found: Any, module: ModuleType) -> list[Case]:
    if inspect.isclass(found):
        found = _instance(target, found)
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        made = guarded(f"{target}() raised", found)
        _check_made(target, made)
        if not (isinstance(made, list) or is_pair(made) or callable(made)):
            return [Case(target, found, [((), {})])]
        found = made
    if isinstance(found, list):
        return _listed(target, found)
    if is_pair(found):
        fn, inputs = found
        return [Case(target, fn, _calls(target, inputs))]
    if not callable(found):
        raise TargetError(
            f"{target}: expected a function, a torch.nn.Module or a factory, "
            f"got {type(found).__name__}"
        )
    calls = _example_inputs(target, found, module)
    _check_fit(target, found, calls)
    return [Case(target, found, calls)]


def _check_made(target: str, made: Any) -> None:
    """What a factory was surely not meant to return; any other value may be a function's result."""
    almost = isinstance(made, tuple) and made and callable(made[0]) and not is_pair(made)
    if almost or inspect.isgenerator(made):
        what = f"a tuple of {len(made)}" if almost else "a generator"
        raise TargetError(
            f"{target}() returned {what}; expected (callable, inputs) or a list of such pairs"
        )


def _instance(target: str, found: type) -> Any:
    if not issubclass(found, torch.nn.Module):
        raise TargetError(f"{target}: expected a torch.nn.Module, got class {found.__name__}")
    if required := _required(found):
        raise TargetError(
            f"{target}: {found.__name__}({', '.join(required)}) cannot be made without arguments. "
            f"Write a factory and name that:\n"
            f"    def audited():\n        return {found.__name__}(...), (x,)  # model, inputs"
        )
    return guarded(f"{target}() raised", found)


def _listed(target: str, items: list[Any]) -> list[Case]:
    cases: list[Case] = []
    for number, item in enumerate(items):
        if isinstance(item, Case):
            cases.append(item)
        elif is_pair(item):
            cases.append(Case(f"{target}[{number}]", item[0], _calls(target, item[1])))
        else:
            raise TargetError(
                f"{target}[{number}]: expected a Case or (callable, inputs), "
                f"got {type(item).__name__}"
            )
    if not cases:
        raise TargetError(f"{target}: an empty list holds nothing to audit")
    return cases


# ------------------------------------------------------------------ inputs


def _calls(target: str, inputs: Any) -> Calls:
    """Inputs as calls. A function makes them anew for each mode and each round of calls."""
    made = inputs
    if inspect.isroutine(inputs):
        made = guarded(f"{target}: {inputs.__name__}() raised", inputs)
    if not _listed_calls(made):
        raise TargetError(f"{target}: an empty list of inputs holds no call")
    if made is inputs:
        return _listed_calls(inputs)
    return lambda: _listed_calls(inputs())


def _listed_calls(inputs: Any) -> list[Step | Call]:
    """A tuple is positional arguments, a dict keyword arguments, a list several calls in turn."""
    if isinstance(inputs, list):
        return [call for item in inputs for call in _listed_calls(item)]
    if isinstance(inputs, Step):
        return [inputs]
    if isinstance(inputs, Mapping):
        return [((), dict(inputs))]
    return [(inputs if isinstance(inputs, tuple) else (inputs,), {})]


def _example_inputs(target: str, found: Any, module: ModuleType) -> Calls:
    """`example_inputs` of the function or module, or else of the file: inputs, or a function
    without parameters that makes them.
    """
    inputs = getattr(found, "example_inputs", None)
    if inputs is None:
        inputs = getattr(module, "example_inputs", None)
    if inputs is None and _required(_called(found)):
        raise TargetError(_needs_inputs(target, found, module))
    return _calls(target, () if inputs is None else inputs)


def _check_fit(target: str, found: Any, calls: Calls) -> None:
    """One `example_inputs` of a file may serve several functions, but not all of them."""
    try:
        signature = inspect.signature(_called(found))
    except ValueError:  # some builtins tell none
        return
    try:
        for step in steps_of(calls):
            signature.bind(*step.args, **step.kwargs)
    except TypeError as error:
        raise TargetError(f"{target}: example_inputs does not fit: {error}") from None


def _called(found: Any) -> Any:
    return found.forward if isinstance(found, torch.nn.Module) else found


def _needs_inputs(target: str, found: Any, module: ModuleType) -> str:
    names = _required(_called(found))
    name = target.rpartition(":")[2]
    made = f"{name}()" if isinstance(getattr(module, name, None), type) else name
    given = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    return (
        f"{target} needs inputs: {given}. Add to {Path(module.__file__ or name).name} either\n"
        f"    def example_inputs():\n"
        f"        return {given}\n"
        f"or a factory, and name that instead of {name}:\n"
        f"    def audited():\n"
        f"        return {made}, {given}"
    )


def _required(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins tell no signature
        return ["..."]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def definition(fn: Callable[..., Any]) -> tuple[str, int]:
    """File and line at which an audited callable is defined; `("", 0)` where it has none."""
    source = type(fn) if isinstance(fn, torch.nn.Module) else inspect.unwrap(fn)
    try:
        return inspect.getsourcefile(source) or "", inspect.getsourcelines(source)[1]
    except (OSError, TypeError):
        return "", 0
