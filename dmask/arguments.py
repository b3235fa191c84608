"""The types of arguments: what each must be, and the error if it is something else.

Tensors are checked by `validation`, which sees what a `TensorMeta` tells.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from dmask.validation import TensorMeta, check_64_bits

REQUIRED: Final = object()
"""Stands for the default of a parameter that has none."""


class Parameter(NamedTuple):
    """One parameter of an op."""

    name: str
    type: str
    """As in the schema, without the `?` of an optional one."""
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
            It is text because Dynamo guards on everything that it reads, and text costs one guard.
        values: one per declared parameter. A `TensorMeta` passes for a tensor.

    Returns:
        The values, with integers and floats of other libraries (NumPy) converted to Python's.

    >>> check_types("SymInt window_size, float? min_dtype", (4, None))
    (4, None)
    >>> check_types("SymInt window_size", (2.5,))
    Traceback (most recent call last):
    TypeError: window_size must be an int, got 2.5
    """
    checked: list[Any] = []
    for text, value in zip(declared.replace("*, ", "").split(", "), values, strict=True):
        kind, name = text.split(" ")
        optional = kind[-1] == "?"
        if optional and value is None:
            checked.append(None)
        else:
            checked.append(_checked(name, kind[:-1] if optional else kind, optional, value))
    return (*checked,)


def _checked(name: str, kind: str, optional: bool, value: Any) -> Any:
    """Returns a value as the type that is declared for it."""
    # The usual types come first: Dynamo guards on each global that it reads.
    if kind == "Tensor":
        if isinstance(value, Tensor) or isinstance(value, TensorMeta):  # noqa: SIM101
            return value
    elif kind in ("SymInt", "int"):
        if type(value) is int:
            return check_64_bits(name, value)
        if isinstance(value, torch.SymInt):
            return value
        if isinstance(value, np.integer) and _is_number(value):
            return check_64_bits(name, int(value))
    elif kind == "float":
        if type(value) is float or type(value) is int:
            return value
        if isinstance(value, (torch.SymFloat, torch.SymInt)):
            return value
        if _is_number(value):
            return float(value)
    elif isinstance(value, bool if kind == "bool" else str):
        return value
    expected = f"{_TYPE_NAMES[kind]}{' or None' if optional else ''}"
    hint = ""
    if kind in ("SymInt", "int", "float") and isinstance(value, (np.number, np.ndarray)):
        convert = "float" if kind == "float" else "int"
        hint = f"; torch.compile takes NumPy's numbers for arrays: pass {convert}({name})"
    raise TypeError(f"{name} must be {expected}, got {shown(value)}{hint}")


def _is_number(value: Any) -> bool:
    """True if a value is a number of NumPy. To Dynamo those are arrays: data, and so no sizes."""
    return isinstance(value, np.number) and not is_dynamo_compiling()


def shown(value: Any) -> str:
    """Returns a wrong value as errors show it: numbers and text in full, the type of all others."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return "a torch.Tensor" if isinstance(value, TensorMeta) else f"a {type(value).__name__}"
