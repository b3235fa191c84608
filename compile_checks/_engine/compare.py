"""Compares compiled code with eager code: results, gradients and changes to the inputs.

The eager code runs on copies of the inputs and of the module, with the same random numbers. Tensors
that the code holds elsewhere start from the contents that they had before the compiled call, and
then get those of the compiled code back. Booleans and integers must be equal. Two floating-point
tensors may differ by `TOLERANCES[dtype]` times the largest magnitude in the tensor, or times
`SMALL` if that is larger. Compiled code may sum in another order, so the relative error of a single
element near zero is meaningless, and a gradient that cancels out is noise.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from compile_checks._engine.held import Snapshot, held_by
from compile_checks._engine.scenarios import Step
from compile_checks._engine.state import numpy_random_state, seed

TOLERANCES: Final[Mapping[torch.dtype, float]] = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 4e-2,
}
"""The largest difference, relative to the largest magnitude of the tensor. A complex dtype uses the
tolerance of its parts. All other dtypes use the largest of these."""

SMALL: Final = 0.1

Leaves = dict[str, Any]


class NotComparableError(Exception):
    """Raised if eager and compiled code cannot be compared. It does not mean the code is wrong."""


class Reference:
    """Repeats the compiled calls in eager mode."""

    def __init__(self, fn: Callable[..., Any], steps: Sequence[Step], *, backward: bool) -> None:
        """Copies everything that the calls may change.

        Raises:
            NotComparableError: if something cannot be copied.
        """
        self._original = fn
        self._backward = backward
        self._drew_from_numpy = False
        self._fn, self._steps = copied(fn, steps)

    def before(self, step: Step) -> None:
        """Saves the state that the compiled code is about to change."""
        self._before = Snapshot(_tensors(self._all_state(step)))
        self._objects = _objects(held_by(self._original))

    def differences(self, index: int, step: Step, result: Any) -> list[str]:
        """Returns the differences after a call in which the compiled code returned `result`.

        Args:
            index, step: the call, with the inputs as the compiled code left them.

        Raises:
            NotComparableError: if eager calls differ from each other, or cannot repeat the call.
        """
        compiled = {**leaves(result, "result"), **_state(self._original, step)}
        compiled |= {path: _own(leaf) for path, leaf in compiled.items()}
        changed = _objects(held_by(self._original)) != self._objects
        after = Snapshot(_tensors(self._all_state(step)))
        try:
            self._before.restore()
            different = _differences(compiled, self._eager(self._fn, self._steps[index]))
            if not different:
                return []
            # A copy may behave unlike the original, for example if it compares ids.
            self._before.restore()
            if not _differences(compiled, self._eager(self._original, step)):
                return []
            if self._drew_from_numpy:
                raise NotComparableError(
                    "eager code draws random numbers with NumPy, compiled code with PyTorch"
                )
            again, and_again = (self._again(index) for _ in range(2))
            if _differences(again, and_again):
                raise NotComparableError(
                    "two eager calls with equal inputs and random numbers differ"
                )
            if changed:
                raise NotComparableError("each call changes objects that the code holds")
            return different
        finally:
            after.restore()

    def _all_state(self, step: Step) -> Any:
        return _module(self._original), held_by(self._original), step.args, step.kwargs

    def _again(self, index: int) -> Leaves:
        self._before.restore()
        return self._eager(*self._copy_of(index))

    def _copy_of(self, index: int) -> tuple[Callable[..., Any], Step]:
        fn, (step,) = copied(self._fn, [self._steps[index]])
        return fn, step

    def _eager(self, fn: Callable[..., Any], step: Step) -> Leaves:
        seed()
        numpy_state = numpy_random_state()
        try:
            with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
                warnings.simplefilter("ignore")
                result = fn(*step.args, **step.kwargs)
                if self._backward:
                    back_propagate(result, into=_leaf_tensors(fn, step))
        except Exception as error:
            return {"result": error}
        finally:
            self._drew_from_numpy |= numpy_random_state() != numpy_state
        return {**leaves(result, "result"), **_state(fn, step)}


def _own(leaf: Any) -> Any:
    """Returns a copy of a tensor, which the eager code may change."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _objects(value: Any) -> Leaves:
    """Returns what identifies the tensors of a value, and all its other leaves."""
    found = leaves(value, "")
    return {path: id(x) if isinstance(x, Tensor) else x for path, x in found.items()}


def back_propagate(result: Any, into: Sequence[Tensor] | None = None) -> bool:
    """Back-propagates the sum of all floating-point outputs that require grad.

    Returns True if there are any such outputs.

    Args:
        into: the leaves that accumulate gradients. `None` means all.
    """
    outputs = [
        tensor.sum()
        for tensor in _tensors(result)
        if tensor.requires_grad and tensor.is_floating_point()
    ]
    if outputs and (into is None or into):
        torch.autograd.backward(outputs, inputs=into)
    return bool(outputs)


def own_gradients(fn: Callable[..., Any], step: Step) -> None:
    """Clones gradients out of the memory of CUDA graphs, which the next call overwrites."""
    for tensor in _leaf_tensors(fn, step):
        if tensor.grad is not None:
            tensor.grad = tensor.grad.clone()


def leaves(value: Any, path: str) -> Leaves:
    """Returns all tensors and plain values in containers, dataclasses, modules and other objects.

    >>> leaves({"a": [1, None]}, "result")
    {"result['a'][0]": 1, "result['a'][1]": None}
    """
    found: Leaves = {}
    _gather(value, path, found, set())
    return found


def _gather(value: Any, path: str, found: Leaves, seen: set[int]) -> None:
    if isinstance(value, (Tensor, bool, int, float, complex, str, bytes, type(None))):
        found[path] = value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for key, part in _parts(value):
        _gather(part, path + key, found, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, torch.nn.Module):
        yield from ((f".{name}", p) for name, p in value.named_parameters())
        yield from ((f".{name}", b) for name, b in value.named_buffers())
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        yield from ((f".{name}", getattr(value, name, None)) for name in names)
    elif not callable(value):
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _state(fn: Callable[..., Any], step: Step) -> Leaves:
    """Returns everything that a call may have changed, including gradients."""
    state = {
        **leaves(_module(fn), "module"),
        **leaves(list(step.args), "args"),
        **leaves(dict(step.kwargs), "kwargs"),
    }
    tensors = {path: leaf for path, leaf in state.items() if isinstance(leaf, Tensor)}
    state |= {f"{path}.grad": t.grad for path, t in tensors.items() if t.is_leaf}
    return state


def _leaf_tensors(fn: Callable[..., Any], step: Step) -> list[Tensor]:
    state = _tensors((_module(fn), list(step.args), dict(step.kwargs)))
    return [*{id(t): t for t in state if t.is_leaf and t.requires_grad}.values()]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(value, "").values() if isinstance(leaf, Tensor)]


def _module(fn: Callable[..., Any]) -> torch.nn.Module | None:
    owner = getattr(fn, "__self__", fn)
    return owner if isinstance(owner, torch.nn.Module) else None


def copied(
    fn: Callable[..., Any], inputs: Sequence[Step]
) -> tuple[Callable[..., Any], Sequence[Step]]:
    """Returns copies of the inputs and of the module. A function is returned unchanged.

    Copies share objects in the same way as the originals.

    Raises:
        NotComparableError: if something cannot be copied.
    """
    original = _module(fn), inputs
    tensors = _tensors(original)
    # `deepcopy` can copy only leaf tensors.
    memo: dict[int, Any] = {
        id(t): t.detach().clone().requires_grad_().clone() for t in tensors if not t.is_leaf
    }
    try:
        module, inputs = copies = copy.deepcopy(original, memo)
    except Exception as error:
        raise NotComparableError(f"the inputs cannot be copied: {error}") from error
    for tensor, other in zip(tensors, _tensors(copies), strict=True):
        if tensor.is_leaf and tensor.grad is not None:
            other.grad = tensor.grad.clone()  # `deepcopy` drops it
    if module is None:
        return fn, inputs
    return (module if isinstance(fn, torch.nn.Module) else getattr(module, fn.__name__)), inputs


def _differences(compiled: Leaves, eager: Leaves) -> list[str]:
    error, other = eager.get("result"), compiled.get("result")
    if isinstance(error, Exception):
        if type(error) is type(other) and str(error) == str(other):
            return []
        return [f"eager code raises {type(error).__name__}: {error}; compiled code does not"]
    if compiled.keys() != eager.keys():
        paths = [*(compiled.keys() ^ eager.keys())]
        return [f"{min(paths)} exists in only one of compiled and eager code"]
    pairs = ((path, _difference(compiled[path], eager[path])) for path in eager)
    return [f"{path} {difference}" for path, difference in pairs if difference]


def _difference(compiled: Any, eager: Any) -> str:
    """Describes how two leaves differ. Returns `""` if they do not."""
    if isinstance(compiled, Tensor) and isinstance(eager, Tensor):
        return _tensor_difference(compiled.detach(), eager.detach())
    if type(compiled) is not type(eager):
        return f"is {_type(compiled)} when compiled, {_type(eager)} in eager mode"
    if isinstance(eager, float):
        nan = math.isnan(compiled) and math.isnan(eager)
        same = nan or math.isclose(compiled, eager, rel_tol=1e-6)
        return "" if same else f"is {compiled} when compiled, {eager} in eager mode"
    return "" if compiled == eager else f"is {compiled!r} when compiled, {eager!r} in eager mode"


def _type(value: Any) -> str:
    return type(value).__name__


def _tensor_difference(compiled: Tensor, eager: Tensor) -> str:
    for name in ("dtype", "shape", "device", "layout"):
        was, should = getattr(compiled, name), getattr(eager, name)
        if was != should:
            return f"has {name} {was} when compiled, {should} in eager mode"
    if eager.is_meta or eager.layout is not torch.strided or torch.equal(compiled, eager):
        return ""
    if not (eager.is_floating_point() or eager.is_complex()):
        wrong = int((compiled != eager).sum())
        return f"differs in {wrong} of {eager.numel()} elements" if wrong else ""
    return _float_difference(compiled, eager)


def _float_difference(compiled: Tensor, eager: Tensor) -> str:
    tolerance = TOLERANCES.get(eager.abs().dtype, max(TOLERANCES.values()))
    wide = torch.complex128 if eager.is_complex() else torch.float64
    compiled, eager = compiled.to(wide), eager.to(wide)
    finite = eager.isfinite()
    if not torch.equal(finite, compiled.isfinite()):
        return "is infinite or NaN in different elements"
    odd, expected = compiled[~finite], eager[~finite]
    if not torch.allclose(odd, expected, equal_nan=True):
        return "has different infinite or NaN elements"
    if not finite.any():
        return ""
    largest = float((compiled - eager)[finite].abs().max())
    allowed = tolerance * max(float(eager[finite].abs().max()), SMALL)
    return f"differs by {largest:.3g}, at most {allowed:.3g} expected" if largest > allowed else ""
