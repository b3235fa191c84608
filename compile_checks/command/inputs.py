"""Turns the inputs of a target into calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from compile_checks._engine.scenarios import Call, Calls, Step, steps_of
from compile_checks.command.modules import TargetError, guarded


def calls_of(target: str, inputs: Any) -> Calls:
    """Converts inputs to calls. A function is called again for each mode and round of calls."""
    made = inputs
    if inspect.isroutine(inputs):
        made = guarded(f"{target}: {inputs.__name__}() raised", inputs)
    if not _listed(made):
        raise TargetError(f"{target}: expected at least one call, got an empty list of inputs")
    if made is inputs:
        return _listed(inputs)
    return lambda: _listed(inputs())


def _listed(inputs: Any) -> list[Step | Call]:
    """Returns the calls.

    A tuple is positional arguments, a dict keywords, a tuple followed by a dict both, and a list
    several calls.
    """
    if isinstance(inputs, list):
        return [call for item in inputs for call in _listed(item)]
    if isinstance(inputs, Step):
        return [inputs]
    if _is_call(inputs):
        return [(inputs[0], dict(inputs[1]))]
    if isinstance(inputs, Mapping):
        return [((), dict(inputs))]
    return [(inputs if isinstance(inputs, tuple) else (inputs,), {})]


def _is_call(inputs: Any) -> bool:
    """True for `(args, kwargs)`."""
    return (
        isinstance(inputs, tuple)
        and len(inputs) == 2
        and isinstance(inputs[0], tuple)
        and isinstance(inputs[1], Mapping)
        and all(isinstance(name, str) for name in inputs[1])
    )


def example_inputs(target: str, found: Any, module: ModuleType) -> Calls:
    """Returns the calls for a function or module that is itself the target.

    They come from `example_inputs` of the function or module, or else of its file.

    Raises:
        TargetError: if it needs inputs and there are none, or if they do not fit its signature.
    """
    inputs = getattr(found, "example_inputs", None)
    if inputs is None:
        inputs = getattr(module, "example_inputs", None)
    if inputs is None and required_parameters(_called(found)):
        raise TargetError(_needs_inputs(target, found, module))
    calls = calls_of(target, () if inputs is None else inputs)
    _check_fit(target, found, calls)
    return calls


def _check_fit(target: str, found: Any, calls: Calls) -> None:
    """Raises if the inputs do not fit. A file's `example_inputs` may fit only some targets."""
    try:
        signature = inspect.signature(_called(found))
    except ValueError:  # some builtins have no signature
        return
    try:
        for step in steps_of(calls):
            signature.bind(*step.args, **step.kwargs)
    except TypeError as error:
        raise TargetError(
            f"{target}: example_inputs does not match the signature: {error}"
        ) from None


def _called(found: Any) -> Any:
    return found.forward if isinstance(found, torch.nn.Module) else found


def _needs_inputs(target: str, found: Any, module: ModuleType) -> str:
    names = required_parameters(_called(found))
    name = target.rpartition(":")[2]
    made = f"{name}()" if isinstance(getattr(module, name, None), type) else name
    given = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    return (
        f"{target} requires inputs: {given}. Add to {Path(module.__file__ or name).name} either\n"
        f"    def example_inputs():\n"
        f"        return {given}\n"
        f"or a factory, and pass its name instead of {name}:\n"
        f"    def audited():\n"
        f"        return {made}, {given}"
    )


def required_parameters(function: Callable[..., Any]) -> list[str]:
    """Returns the names of the parameters that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return ["..."]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
