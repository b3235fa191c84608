"""Modules that compile parts of themselves, such as their blocks, and not the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

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
    more = f" and {len(regions) - _SHOWN} more" if len(regions) > _SHOWN else ""
    return (
        f"audited without `torch.compile` around it, because it compiles parts of itself: "
        f"{', '.join(regions[:_SHOWN])}{more}. The backend and the mode are those of the parts"
    )


def _compiles_itself(module: torch.nn.Module) -> bool:
    if getattr(module, "_compiled_call_impl", None) is not None:
        return True
    methods = [module.forward, *vars(type(module)).values()]
    return any(map(_is_compiled, methods))


def _is_compiled(function: object) -> bool:
    """True if `torch.compile` returned a function. It marks it, and so does `disable`."""
    marked = hasattr(function, "_torchdynamo_orig_callable")
    return marked and not getattr(function, "_torchdynamo_disable", False)
