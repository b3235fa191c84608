"""Checks the types of arguments.

`validation` checks the shape, dtype and device of tensors.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from dmask.validation import TensorMeta, check_64_bits

REQUIRED: Final = object()
"""The default of a parameter that has no default."""


class Parameter(NamedTuple):
    """One parameter of an op."""

    name: str
    type: str
    """As in the schema, without the `?` of an optional parameter."""
    optional: bool
    default: Any
    keyword_only: bool


_TYPE_NAMES = {
    "Tensor": "a torch.Tensor",
    "SymInt": "an int",
    "int": "an int",
    "float": "a float",
    "bool": "a bool",
    "str": "a str",
}


def check_types(declared: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Checks the types of all arguments of a call.

    Args:
        declared: `"Tensor attention_bias, SymInt? window_size, *, str tie_break"`, as in a schema.
            It is a string because Dynamo guards on every object read, and a string is one guard.
        values: one per declared parameter. A `TensorMeta` is accepted as a tensor.

    Returns:
        The values, with NumPy integers and floats converted to Python numbers.

    >>> check_types("SymInt window_size, float? min_dtype", (4, None))
    (4, None)
    >>> check_types("SymInt window_size", (2.5,))
    Traceback (most recent call last):
    TypeError: window_size must be an int, got 2.5
    """
    checked: list[Any] = []
    for text in declared.replace("*, ", "").split(", "):
        value, *values = values  # type: ignore[assignment]
        kind, name = text.split(" ")
        # Common values pass here. In a compiled model, Dynamo guards on every function and global
        # that is read, so this reads few. The comparisons add no guard on a symbol.
        if not (
            (kind[-1] == "?" and value is None)
            or (kind[:6] == "Tensor" and isinstance(value, Tensor))
            or (kind == "str" and type(value) is str)
            or (
                kind[:6] == "SymInt"
                and type(value) is int
                and (value < 0) is not True
                and (value >= 2**63) is not True
            )
        ):
            value = _checked(name, kind.removesuffix("?"), kind[-1] == "?", value)
        checked.append(value)
    return (*checked,)


def _checked(name: str, kind: str, optional: bool, value: Any) -> Any:
    """Converts a value to its declared type, or raises a `TypeError`."""
    if kind == "Tensor":
        if isinstance(value, (Tensor, TensorMeta)):
            return value
    elif kind in ("SymInt", "int"):
        if type(value) is int:
            return check_64_bits(name, value)
        if isinstance(value, torch.SymInt):
            return value
        if isinstance(value, np.integer) and _is_number(value):
            return check_64_bits(name, int(value))
    elif kind == "float":
        if isinstance(value, (float, torch.SymFloat, torch.SymInt)) or type(value) is int:
            return value
        if _is_number(value):
            return float(value)
    elif isinstance(value, bool if kind == "bool" else str):
        return value
    expected = f"{_TYPE_NAMES[kind]}{' or None' if optional else ''}"
    hint = ""
    if kind in ("SymInt", "int", "float") and isinstance(value, (np.number, np.ndarray)):
        convert = "float" if kind == "float" else "int"
        hint = f"; torch.compile treats NumPy numbers as arrays: pass {convert}({name})"
    raise TypeError(f"{name} must be {expected}, got {shown(value)}{hint}")


def check_pair(name: str, given: Any) -> tuple[Any, Any]:
    """Returns the two tensors of an argument, or `None` twice if there is none."""
    if given is None:
        return None, None
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"{name} must be a pair of tensors, got {shown(given)}")
    if len(given) != 2:
        raise ValueError(f"{name} must be a pair of tensors, got {len(given)}")
    first, second = check_types(f"Tensor {name}[0], Tensor {name}[1]", tuple(given))
    return first, second


def check_float_dtype(name: str, dtype: object) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name} must be a torch.dtype, got {shown(dtype)}")
    if not dtype.is_floating_point:
        raise TypeError(f"{name} must be a floating-point dtype, got {dtype}")


def _is_number(value: Any) -> bool:
    """True for a NumPy number. False under Dynamo, which treats them as arrays, not as sizes."""
    return isinstance(value, np.number) and not is_dynamo_compiling()


def shown(value: Any) -> str:
    """Describes a wrong value for an error: numbers and strings in full, others by type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return "a torch.Tensor" if isinstance(value, TensorMeta) else f"a {type(value).__name__}"
