"""The registry of strategies: registration, lookup and options.

A strategy is a plain function ``(attention_bias, attention_mask, ...options) -> bool mask``.
Registering it defines the op ``torch.ops.dmask.<name>_mask`` with a schema, a fake kernel and a
vmap rule, so that it compiles without graph breaks, and makes it available as
``create_mask(type=name)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor
from torch.library import Library, infer_schema

from dmask import arguments, compat, validation
from dmask.arguments import Parameter
from dmask.contracts.spec import NAMESPACE, define, forget_plans, fragment
from dmask.contracts.strategy import MaskFunction, Strategy
from dmask.kernels.reference.ranking import eligible_keys
from dmask.validation import Shape, TensorMeta

F = TypeVar("F", bound=Callable[..., Tensor])

_strategies: dict[str, Strategy] = {}
_libraries: dict[str, Library] = {}


# ------------------------------------------------------------------ look up


def strategies() -> tuple[str, ...]:
    """Returns the sorted names of all registered strategies.

    >>> import dmask
    >>> dmask.strategies()
    ('block_topk', 'ratio', 'relu', 'topk', 'topp')
    """
    return tuple(sorted(_strategies))


def get_strategy(name: str) -> Strategy:
    """Returns the strategy called `name`.

    Raises:
        ValueError: for an unknown name. The message lists the valid names.
    """
    strategy = _strategies.get(name)
    if strategy is None:
        raise validation.unknown("type", name, strategies())
    return strategy


# ------------------------------------------------------------------ register


@overload
def register_strategy(name: str) -> Callable[[F], F]: ...
@overload
def register_strategy(name: str, function: F) -> F: ...
def register_strategy(name: str, function: F | None = None) -> F | Callable[[F], F]:
    """Registers a mask strategy and returns the function unchanged. Also works as a decorator.

    Args:
        name: an identifier. The op is `torch.ops.dmask.<name>_mask`.
        function: `(attention_bias, attention_mask, ...options) -> mask`, with annotations, made of
            PyTorch operations. It receives a bias `({B|1}, {H|1}, {Lq|1}, Lk)` and a bool mask that
            broadcasts against it, or `None`, and returns a bool mask that broadcasts to the shape
            of both. If it has the parameters `window_size`, `min_dtype` (the floor, never `None`)
            or `tie_break`, they come from `create_mask`. All other parameters are options of the
            strategy, of type `int`, `float`, `bool` or `str`.

    dmask removes forbidden keys, and keys with a score at or below the floor, from the mask that
    the function returns. The function must treat the entries of a batch independently.

    Raises:
        TypeError: for a name that is not a string, or a function that is not callable.
        ValueError: for a name that is taken or is not an identifier, or a function without the
            signature of a strategy.

    >>> import torch, dmask
    >>> @dmask.register_strategy("above")
    ... def above(attention_bias: torch.Tensor, attention_mask: torch.Tensor | None,
    ...           threshold: float = 0.0) -> torch.Tensor:
    ...     return attention_bias > threshold
    >>> bias = torch.tensor([0.1, 0.7, 0.9]).view(1, 1, 1, 3)
    >>> dmask.create_mask(bias, None, 1, 1, 3, None, type="above", options={"threshold": 0.5})
    tensor([[[[False,  True,  True]]]])
    >>> dmask.unregister_strategy("above")
    """
    arguments.check_types("str name", (name,))
    if function is None:
        return lambda decorated: register_strategy(name, decorated)
    if not callable(function):
        raise TypeError(f"function must be callable, got {arguments.shown(function)}")
    _check_defaults(name, function)
    try:
        schema = infer_schema(function, mutates_args=())
    except ValueError as error:
        raise _not_a_strategy(name, inspect.signature(function), str(error)) from None
    add(Strategy(name, schema, partial(_choose_function, name, function), builtin=False))
    return function


def unregister_strategy(name: str) -> None:
    """Removes a strategy and its op. Built-in strategies cannot be removed.

    Calling a remaining reference to the op raises a `RuntimeError`.

    Raises:
        TypeError: for a name that is not a string.
        ValueError: for an unknown name, or the name of a built-in strategy.
    """
    arguments.check_types("str name", (name,))
    strategy = get_strategy(name)
    if strategy.builtin:
        raise ValueError(f"type {name!r} is built in and cannot be unregistered")
    del _strategies[name]
    forget_plans()
    packet = getattr(getattr(torch.ops, NAMESPACE), strategy.op.name)
    compat.destroy(_libraries.pop(name), packet)


def add(strategy: Strategy) -> None:
    """Defines the op of a strategy and adds the strategy to the registry."""
    name = strategy.name
    if name in _strategies:
        raise ValueError(
            f"type {name!r} is already registered; registered types are {strategies()!r}"
        )
    if not name.isidentifier() or hasattr(getattr(torch.ops, NAMESPACE), f"{name}_mask"):
        raise ValueError(
            f"type must be an identifier, and op dmask::<type>_mask must not exist, got {name!r}"
        )
    if not strategy.builtin:
        _check_signature(strategy)
    library = fragment()
    define(strategy.op, library)
    _strategies[name], _libraries[name] = strategy, library


def _check_defaults(name: str, function: Callable[..., Tensor]) -> None:
    """Rejects string defaults that a schema cannot represent, because it has no escapes."""
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        if isinstance(default, str) and any(c in default for c in '"\\\n'):
            why = (
                f"the default of {parameter.name} must not contain quotes, backslashes or newlines"
            )
            raise _not_a_strategy(name, inspect.signature(function), why)


def _check_signature(strategy: Strategy) -> None:
    """Rejects a schema without the signature of a strategy."""
    name, schema = strategy.name, strategy.schema
    tensors = [(p.type, p.optional) for p in strategy.op.parameters[:2]]
    if tensors != [("Tensor", False), ("Tensor", True)]:
        raise _not_a_strategy(name, schema, "a bias and an optional mask must come first")
    if not schema.endswith(") -> Tensor"):
        raise _not_a_strategy(name, schema, "the result must be one Tensor")
    parameters = strategy.parameters
    wrong = [n for n in strategy.options if not _is_option(parameters[n])]
    if wrong:
        raise _not_a_strategy(name, schema, f"options {wrong!r} must be int, float, bool or str")


def _not_a_strategy(name: str, given: object, why: str) -> ValueError:
    return ValueError(
        f"strategy {name!r} must be a function (attention_bias: Tensor, attention_mask: "
        f"Tensor | None, ...options) -> Tensor, got {given}: {why}"
    )


def _check_result(name: str, kept: object, shape: Shape) -> None:
    """Checks the result of a registered strategy, which is user code."""
    if not isinstance(kept, Tensor) or kept.dtype is not torch.bool:
        what = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
        raise TypeError(f"strategy {name!r} must return a bool tensor, got {what}")
    if kept.dim() != 4 or any(k not in (1, n) for k, n in zip(kept.shape, shape, strict=True)):
        raise ValueError(
            f"strategy {name!r} must return a mask that broadcasts to {tuple(shape)}, "
            f"got shape {tuple(kept.shape)}"
        )


def _choose_function(
    name: str,
    function: Callable[..., Tensor],
    _: TensorMeta,
    shape: Shape,
    floor: float,
    **arguments: Any,
) -> MaskFunction:
    """Returns a function that calls a user's strategy and drops the keys that are not eligible."""
    if "min_dtype" in arguments:
        arguments["min_dtype"] = floor

    def run(bias: Tensor, allowed: Tensor | None) -> Tensor:
        kept = function(bias, allowed, **arguments)
        _check_result(name, kept, shape)
        kept = kept & eligible_keys(bias, allowed, floor)
        return kept.expand(shape).contiguous()

    return run


# ------------------------------------------------------------------ options

_READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "SymInt": int,
    "float": float,
    "str": str,
    "bool": {"True": True, "False": False}.__getitem__,
}
# Escape the separators, so that names and values may contain them.
_ESCAPES = (("%", "%25"), (",", "%2C"), ("=", "%3D"))


def _is_option(parameter: Parameter) -> bool:
    return parameter.type in _READERS and not parameter.optional


def encode_options(options: Mapping[str, object] | None) -> str:
    """Encodes options losslessly as a string, which the schema of an op can represent.

    >>> encode_options({"p": 0.9, "names": "a,b"})
    'p=0.9,names=a%2Cb'
    """
    if options is None:
        return ""
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping or None, got {arguments.shown(options)}")
    texts = []
    for name, value in options.items():
        if not isinstance(name, str):
            raise TypeError(f"options must have names of type str, got {arguments.shown(name)}")
        if isinstance(value, np.number):
            value = value.item()
        if not isinstance(value, (int, float, str)):  # bool is an int
            raise TypeError(
                f"option {name!r} must be an int, float, bool or str, got {type(value).__name__}"
            )
        # A compiled call may pass a symbolic number, which cannot be formatted. As the member of a
        # set, it becomes a concrete number.
        texts += [f"{name}={_escaped(f'{number}')}" for number in {value}]
    return ",".join(texts)


def _escaped(text: str) -> str:
    for character, code in _ESCAPES:
        text = text.replace(character, code)
    return text


def decode_options(strategy: Strategy, options: str) -> dict[str, Any]:
    """Decodes the options of a strategy: the inverse of `encode_options`."""
    values: dict[str, Any] = {}
    for option in options.split(","):
        name, _, text = option.partition("=")
        if name not in strategy.options:
            raise validation.unknown(f"{strategy.name!r} option", name, strategy.options)
        for character, code in reversed(_ESCAPES):
            text = text.replace(code, character)
        kind = strategy.parameters[name].type
        try:
            values[name] = _READERS[kind](text)
        except (KeyError, ValueError):
            kind = kind.removeprefix("Sym").lower()
            raise ValueError(
                f"{strategy.name!r} option {name!r} must be {kind}, got {text!r}"
            ) from None
    return values
