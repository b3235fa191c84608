"""State that code holds besides its arguments: globals, closures, defaults and bound objects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from compile_checks._engine.findings import YOURS
from compile_checks._engine.places import owner_of


def held_by(fn: Callable[..., Any]) -> list[Any]:
    """Returns the objects that a function or a module's `forward` refers to.

    Follows functions of the same owner that it calls. Modules of Python, classes and functions hold
    no state of their own.

    >>> def counting(x, seen=[]): ...
    >>> held_by(counting)
    [[]]
    """
    found: list[Any] = []
    _follow(type(fn).forward if isinstance(fn, torch.nn.Module) else fn, found, set())
    return found


def _follow(fn: Any, found: list[Any], seen: set[int]) -> None:
    if id(fn) in seen:
        return
    seen.add(id(fn))
    if isinstance(fn, functools.partial):
        found += [*fn.args, *fn.keywords.values()]
        _follow(fn.func, found, seen)
    elif isinstance(fn, MethodType):
        found.append(fn.__self__)
        _follow(fn.__func__, found, seen)
    elif isinstance(fn, FunctionType) and owner_of(fn.__code__.co_filename) == YOURS:
        for value in _values_in(fn):
            if isinstance(value, (FunctionType, MethodType, functools.partial)):
                _follow(value, found, seen)
            elif not isinstance(value, (ModuleType, type)):
                found.append(value)


def _values_in(fn: FunctionType) -> Iterator[Any]:
    """Yields the values of a function's globals, closure and defaults."""
    names = {name for code in _codes(fn.__code__) for name in code.co_names}
    yield from (fn.__globals__[name] for name in sorted(names & fn.__globals__.keys()))
    for cell in fn.__closure__ or ():
        with suppress(ValueError):  # not assigned yet
            yield cell.cell_contents
    yield from (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())


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
            if _is_writable(tensor)
            for grad in [tensor.grad if tensor.is_leaf else None]
        ]

    def restore(self) -> None:
        """Writes the contents and gradients back."""
        for tensor, content, grad in self._saved:
            # `data`: not an operation for autograd to record.
            if tensor.shape == content.shape:
                tensor.data.copy_(content)
            else:
                tensor.data = content.clone()
            if tensor.is_leaf:
                tensor.grad = None if grad is None else grad.clone()


def _is_writable(tensor: Tensor) -> bool:
    """False for tensors that code cannot change in place either."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_inference():
        return False
    expanded = (
        size > 1 and step == 0 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return not any(expanded)
