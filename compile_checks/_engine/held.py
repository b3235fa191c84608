"""State that code holds besides its arguments: globals, closures, defaults and bound objects."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from compile_checks._engine.findings import YOURS
from compile_checks._engine.places import owner_of


def held_by(fn: Callable[..., Any]) -> dict[str, Any]:
    """Returns the objects that a function or a module's `forward` refers to, by name.

    Follows functions of the same owner that it calls. Modules of Python, classes and functions hold
    no state of their own.

    >>> def counting(x, seen=[]): ...
    >>> held_by(counting)
    {'seen': []}
    """
    found: dict[str, Any] = {}
    _follow(type(fn).forward if isinstance(fn, torch.nn.Module) else fn, found, set())
    return found


def _follow(fn: Any, found: dict[str, Any], seen: set[int]) -> None:
    if id(fn) in seen:
        return
    seen.add(id(fn))
    if isinstance(fn, functools.partial):
        found |= {f"partial[{index}]": value for index, value in enumerate(fn.args)}
        found |= fn.keywords
        _follow(fn.func, found, seen)
    elif isinstance(fn, MethodType):
        found["self"] = fn.__self__
        _follow(fn.__func__, found, seen)
    elif isinstance(fn, FunctionType) and owner_of(fn.__code__.co_filename) == YOURS:
        for name, value in _names_of(fn):
            if isinstance(value, (FunctionType, MethodType, functools.partial)):
                _follow(value, found, seen)
            elif not isinstance(value, (ModuleType, type)):
                found[name] = value


def _names_of(fn: FunctionType) -> Iterator[tuple[str, Any]]:
    names = {name for code in _codes(fn.__code__) for name in code.co_names}
    yield from ((name, fn.__globals__[name]) for name in sorted(names & fn.__globals__.keys()))
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.default is not parameter.empty:
            yield name, parameter.default


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yields the code of a function and of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class Snapshot:
    """The contents of tensors, to be written back to the same tensors."""

    def __init__(self, tensors: list[Tensor]) -> None:
        unique = {id(tensor): tensor for tensor in tensors}.values()
        self._saved = [
            (tensor, tensor.detach().clone(), None if grad is None else grad.detach().clone())
            for tensor in unique
            if tensor.layout is torch.strided and not tensor.is_meta
            for grad in [tensor.grad if tensor.is_leaf else None]
        ]

    def restore(self) -> None:
        """Writes the contents and gradients back.

        Raises:
            RuntimeError: if a tensor has another shape now.
        """
        for tensor, content, grad in self._saved:
            if tensor.shape != content.shape:
                raise RuntimeError("a tensor has another shape now")
            # Some tensors cannot be written, such as expanded ones. Those have not changed.
            if not torch.equal(tensor, content):
                tensor.data.copy_(content)  # `data`: not an operation for autograd to record
            if tensor.is_leaf:
                tensor.grad = None if grad is None else grad.clone()
