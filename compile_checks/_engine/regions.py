"""Modules that compile parts of themselves, such as their blocks, and not the whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from typing import Any

import torch

from compile_checks import _compat

_SHOWN = 4


def compiled_regions(fn: Callable[..., Any]) -> list[str]:
    """Returns the names of the parts of a module that compile themselves.

    On these, `compile` was called, or a method of their class is decorated with `torch.compile`.

    >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU())
    >>> model[1].compile()
    >>> compiled_regions(model)
    ['1']
    """
    if not isinstance(fn, torch.nn.Module):
        return []
    return [name for name, part in fn.named_modules() if part is not fn and _compiles_itself(part)]


def described(regions: list[str]) -> str:
    """Returns a note about a module that was audited with its own compiled parts."""
    return (
        f"audited without `torch.compile` around it, because it compiles parts of itself: "
        f"{_listed(regions)}. The backend and the mode are those of the parts"
    )


def without_effect(fn: Callable[..., Any], compiled: Set[tuple[str, int]]) -> list[str]:
    """Returns the names of the parts on which `compile` was called and that Dynamo never compiled.

    Args:
        compiled: the file and the first line of each function that Dynamo compiled or tried to.
    """
    wrapped = any(file == _compat.WRAPPER_FILE for file, _ in compiled)
    if wrapped or not isinstance(fn, torch.nn.Module):
        return []  # a wrapper does not say which part it calls
    found: list[str] = []
    reached: list[str] = []
    for name, part in fn.named_modules():
        if part is fn or _compiled_call(part) is None or name.startswith(tuple(reached)):
            continue
        places = [_place_of_forward(inner) for inner in part.modules()]
        if None in places or not compiled.isdisjoint(places):
            reached.append(f"{name}.")  # the parts of this one may be inlined in it
        else:
            found.append(name)
    return found


def said_without_effect(parts: list[str]) -> str:
    """Returns a note about parts that `without_effect` found."""
    return (
        f"`.compile()` had no effect on {_listed(parts)}: Dynamo compiled no `forward` in it. "
        "Torch 2.13 and earlier skip those of PyTorch's own modules, such as nn.Sequential: use "
        "torch.compile(module)"
    )


def _place_of_forward(module: torch.nn.Module) -> tuple[str, int] | None:
    """Returns the file and first line of a module's `forward`, or None if it is not a function."""
    code = getattr(inspect.unwrap(module.forward), "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _compiled_call(module: torch.nn.Module) -> Any:
    return getattr(module, "_compiled_call_impl", None)


def _compiles_itself(module: torch.nn.Module) -> bool:
    if _compiled_call(module) is not None:
        return True
    methods = [module.forward, *vars(type(module)).values()]
    return any(map(_is_compiled, methods))


def _is_compiled(function: object) -> bool:
    """True if `torch.compile` returned a function. It marks it, and so does `disable`."""
    marked = hasattr(function, "_torchdynamo_orig_callable")
    return marked and not getattr(function, "_torchdynamo_disable", False)
