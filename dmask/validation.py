"""Every check and every message.

Shape legend, used in every docstring of dmask::

    B batch    H query heads    KVH key/value heads (H = KVH * groups)    Lq queries    Lk keys

Checks see the shape, dtype and device of a tensor and nothing else (`TensorMeta`). They run on fake
tensors exactly as on real ones, so that a compiled call fails with the text of the eager one,
before any work. A call that has passed its checks need not be checked again.

Comparisons of sizes that raise an error go through `known`: a size may be unbacked, and what is not
known about it while tracing is checked when the op runs. Where every call passes, `is not False`
comes first and saves plain integers the Python frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from dmask.compat import known

TIE_BREAKS = ("lowest", "torch")
INDEX_DTYPES = (torch.int32, torch.int64)

_MASK_DTYPES = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)
_SHAPE_4D = "({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})"

Shape = tuple[int, int, int, int]
Sizes = tuple[int, int, int]
"""`(batch_size, query_len, key_len)`."""


class TensorMeta(NamedTuple):
    """What checks may know of a tensor."""

    shape: torch.Size | tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def describe(value: Any) -> Any:
    """Returns the `TensorMeta` of a tensor, and any other value as it is."""
    return meta(value) if isinstance(value, Tensor) else value


def meta(tensor: Tensor) -> TensorMeta:
    return TensorMeta(tensor.shape, tensor.dtype, tensor.device)


def optional_meta(tensor: Tensor | None) -> TensorMeta | None:
    return None if tensor is None else meta(tensor)


# ------------------------------------------------------------------ types of arguments

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
        declared: `"Tensor attention_bias, Tensor? attention_mask, SymInt window_size"`. It is text
            because Dynamo guards on everything that it reads, and text costs one guard.
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
    for text, value in zip(declared.split(", "), values, strict=True):
        kind, name = text.split(" ")
        optional = kind[-1] == "?"
        if optional and value is None:
            checked.append(None)
        else:
            checked.append(_checked(name, kind[:-1] if optional else kind, optional, value))
    return tuple(checked)


def _checked(name: str, kind: str, optional: bool, value: Any) -> Any:
    """Returns a value as the type that is declared for it."""
    if kind == "Tensor":
        if isinstance(value, (Tensor, TensorMeta)):
            return value
    elif kind in ("SymInt", "int"):
        if isinstance(value, torch.SymInt):
            return value
        if isinstance(value, np.integer) and _is_number(value):
            value = int(value)
        if type(value) is int:
            _check_64_bits(name, value)
            return value
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


# ------------------------------------------------------------------ values of arguments


def unknown(what: str, given: object, valid: Iterable[str]) -> ValueError:
    """Returns the error for a name that is not in a list of names."""
    return ValueError(f"unknown {what} {given!r}; expected one of {tuple(valid)!r}")


def check_positive(name: str, value: int) -> None:
    if known(value < 1):
        raise ValueError(f"{name} must be at least 1, got {value}")
    _check_64_bits(name, value)


def check_not_negative(name: str, value: int) -> None:
    if known(value < 0):
        raise ValueError(f"{name} must not be negative, got {value}")
    _check_64_bits(name, value)


def _check_64_bits(name: str, value: int) -> None:
    # Symbolic numbers fit. To ask about them would make a guard.
    if (value >= 2**63) is True or (value < -(2**63)) is True:
        raise ValueError(f"{name} must fit in 64 bits, got {value}")


def check_share(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}")


def check_call(
    dtype: torch.dtype,
    window_size: int | None = None,
    min_dtype: float | None = None,
    tie_break: str = "torch",
) -> float:
    """Checks the arguments that every mask has in addition to its tensors. Returns the floor."""
    if window_size is not None and not (type(window_size) is int and 0 < window_size < 2**63):
        check_positive("window_size", window_size)
    if tie_break not in TIE_BREAKS:
        raise unknown("tie_break", tie_break, TIE_BREAKS)
    return torch.finfo(dtype).min if min_dtype is None else floor_of(min_dtype, dtype)


def floor_of(min_dtype: float, dtype: torch.dtype) -> float:
    """Returns the score of a forbidden key, `min_dtype` as `dtype` holds it.

    A number between two of `dtype` becomes the nearer one, as with `masked_fill`.

    >>> floor_of(0.1, torch.float16), floor_of(-1e-30, torch.float8_e5m2)
    (0.0999755859375, -0.0)
    """
    limits = torch.finfo(dtype)
    if math.isnan(min_dtype):
        raise ValueError(f"min_dtype must be a number that {dtype} can hold, got {min_dtype}")
    if math.isinf(min_dtype):
        return float(min_dtype)
    if not limits.min <= min_dtype <= limits.max:
        raise ValueError(
            f"min_dtype must be a number that {dtype} can hold "
            f"({limits.min:g} to {limits.max:g}), got {min_dtype:g}"
        )
    # In Python: a tensor would be fake, or on another device, wherever its maker's mode says so.
    _, exponent = math.frexp(min_dtype)
    # torch.finfo gives this dtype the eps of three mantissa bits; it has two.
    eps = 0.25 if dtype is torch.float8_e5m2fnuz else limits.eps
    unit = eps * max(2.0 ** (exponent - 1), limits.smallest_normal)
    return math.copysign(round(min_dtype / unit) * unit, min_dtype)


# ------------------------------------------------------------------ one tensor


def check_bias(bias: TensorMeta) -> None:
    if not bias.dtype.is_floating_point:
        raise TypeError(f"attention_bias must have a floating dtype, got {bias.dtype}")
    if len(bias.shape) != 4:
        raise ValueError(f"attention_bias must be 4-D {_SHAPE_4D}, got shape {tuple(bias.shape)}")


def check_mask_dtype(mask: TensorMeta) -> None:
    if mask.dtype in _MASK_DTYPES:
        return
    hint = ""
    if mask.dtype.is_floating_point:
        hint = "; convert an additive mask with `attention_mask == 0`"
    raise TypeError(
        "attention_mask must be bool (True = may be attended) or integer 0/1, "
        f"got {mask.dtype}{hint}"
    )


def bad_mask_values() -> str:
    """Returns the text of the error for an integer mask with other values than 0 and 1."""
    return (
        "attention_mask of integers must hold 0 (forbidden) and 1 (may be attended), got other "
        "values; convert an additive mask with `attention_mask == 0`"
    )


def check_float_dtype(name: str, dtype: object) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name} must be a torch.dtype, got {shown(dtype)}")
    if not dtype.is_floating_point:
        raise TypeError(f"{name} must be a floating dtype, got {dtype}")


# ------------------------------------------------------------------ bias and mask


def check_mask_4d(mask: TensorMeta | None, other: TensorMeta, name: str = "attention_bias") -> None:
    """Checks a mask that must be 4-D already against another tensor, called `name`."""
    if mask is None:
        return
    check_mask_dtype(mask)
    check_device(mask, other, name)
    if len(mask.shape) != 4:
        raise ValueError(
            f"attention_mask must be 4-D {_SHAPE_4D}, got shape {tuple(mask.shape)}; "
            "create_mask takes (B, S) masks too"
        )


def check_device(
    tensor: TensorMeta, other: TensorMeta, other_name: str, name: str = "attention_mask"
) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{other_name} and {name} must be on one device, got {other.device} and {tensor.device}"
        )


def check_heads(name: str, tensor: TensorMeta, heads: int) -> None:
    """Checks that the heads of a tensor repeat to `heads`."""
    own = tensor.shape[1]
    if known(own != heads) and (known(own == 0) or known(heads % own != 0)):
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} must have a number of heads that divides "
            f"{heads}, got {own}"
        )


def check_sizes(bias: TensorMeta, mask: TensorMeta | None, sizes: Sizes) -> None:
    """Checks `batch_size`, `query_len` and `key_len` against the tensors they describe."""
    for name, size in zip(("batch_size", "query_len", "key_len"), sizes, strict=True):
        if (size < 0) is not False and known(size < 0):
            raise ValueError(f"{name} must not be negative, got {size}")
    _check_sizes_4d("attention_bias", bias, sizes)
    if mask is not None:
        check_mask(mask, bias, "attention_bias", sizes)


def check_mask(mask: TensorMeta | None, other: TensorMeta, name: str, sizes: Sizes) -> None:
    """Checks a 2-D or 4-D mask for `sizes`, and against another tensor, called `name`."""
    if mask is None:
        return
    check_mask_dtype(mask)
    check_device(mask, other, name)
    if len(mask.shape) == 4:
        _check_sizes_4d("attention_mask", mask, sizes)
    elif len(mask.shape) == 2:
        _check_sizes_2d(mask, sizes)
    else:
        raise ValueError(
            f"attention_mask must be 2-D (B, S) or 4-D {_SHAPE_4D}, got shape {tuple(mask.shape)}"
        )


_DIMENSIONS = ((0, "batch_size"), (2, "query_len"), (3, "key_len"))


def _check_sizes_4d(name: str, tensor: TensorMeta, sizes: Sizes) -> None:
    for (dim, size_name), expected in zip(_DIMENSIONS, sizes, strict=True):
        own = tensor.shape[dim]
        if (own != expected) is not False and known(own != expected) and known(own != 1):
            raise ValueError(
                f"{name} of shape {tuple(tensor.shape)} contradicts {size_name}={expected}: "
                f"dimension {dim} must be {expected} or 1"
            )


def _check_sizes_2d(mask: TensorMeta, sizes: Sizes) -> None:
    batch_size, query_len, key_len = sizes
    batch, length = mask.shape
    given = f"attention_mask of shape {tuple(mask.shape)}"
    if (batch != batch_size) is not False and known(batch != batch_size) and known(batch != 1):
        raise ValueError(
            f"{given} contradicts batch_size={batch_size}: dimension 0 must be {batch_size} or 1"
        )
    if (length != key_len) is False or not known(length != key_len):
        return
    if known(length != query_len):
        raise ValueError(
            f"{given} must cover key_len={key_len} or query_len={query_len} positions, got {length}"
        )
    if known(key_len < query_len):
        raise ValueError(
            f"{given} covers query_len={query_len} positions and cannot be padded to "
            f"key_len={key_len}: key_len must not be less than query_len"
        )


def mask_shape(
    bias: TensorMeta,
    mask: TensorMeta | None,
    key_len: int | None = None,
    name: str = "attention_bias",
) -> Shape:
    """Returns the broadcast shape of a bias and a mask, with heads repeating per group.

    Args:
        mask: 2-D or 4-D.
        key_len: the last dimension. Without it, the tensors say how many keys there are.
        name: what errors call the first tensor.
    """
    batch, heads, queries, keys = bias.shape
    if mask is not None:
        if len(mask.shape) == 2:
            batch = _broadcast(0, batch, mask.shape[0], bias, mask, name)
        else:
            batch, heads, queries, keys = (
                _broadcast(dim, bias.shape[dim], mask.shape[dim], bias, mask, name)
                for dim in range(4)
            )
    return batch, heads, queries, keys if key_len is None else key_len


def _broadcast(dim: int, a: int, b: int, bias: TensorMeta, mask: TensorMeta, name: str) -> int:
    """Returns the size of a dimension of both. Unbacked sizes are taken for equal."""
    if (a == b) is True or known(b == 1):
        return a
    if known(a == 1):
        return b
    if not known(a != b):
        return a if isinstance(a, int) else b
    more, fewer = (a, b) if known(a > b) else (b, a)
    if dim == 1 and known(fewer != 0) and known(more % fewer == 0):
        return more
    why = f"dimension {dim} is {a} and {b}"
    if dim == 1:
        why = f"of the head counts {a} and {b} neither divides the other"
    raise ValueError(
        f"shapes {tuple(bias.shape)} and {tuple(mask.shape)} of {name} and attention_mask "
        f"do not broadcast: {why}"
    )


def check_block_smooth(mask: TensorMeta, allowed: TensorMeta | None, block_size: int) -> Shape:
    """Checks a call of `block_smooth` and returns the shape of its result."""
    if mask.dtype is not torch.bool:
        raise TypeError(f"mask must be bool (True = kept), got {mask.dtype}")
    if len(mask.shape) != 4:
        raise ValueError(
            f"mask must be 4-D ({{B|1}}, {{H|1}}, {{Lq|1}}, Lk), got shape {tuple(mask.shape)}"
        )
    check_positive("block_size", block_size)
    check_mask_4d(allowed, mask, "mask")
    return mask_shape(mask, allowed, name="mask")


# ------------------------------------------------------------------ selections


def check_key_lengths(lengths: TensorMeta | None, bias: TensorMeta) -> None:
    if lengths is None:
        return
    if lengths.dtype not in INDEX_DTYPES:
        raise TypeError(f"key_lengths must be int32 or int64, got {lengths.dtype}")
    check_device(lengths, bias, "attention_bias", "key_lengths")
    if len(lengths.shape) != 1:
        raise ValueError(f"key_lengths must be 1-D (B,), got shape {tuple(lengths.shape)}")


def check_always_kept(window_size: int, sinks: int, local: int) -> None:
    check_not_negative("sinks", sinks)
    check_not_negative("local", local)
    if known(sinks + local > window_size):
        raise ValueError(
            f"sinks and local count inside window_size={window_size}, got {sinks} + {local}"
        )


def selection_sizes(
    bias: TensorMeta,
    mask: TensorMeta | None,
    lengths: TensorMeta | None,
    query_len: int | None,
) -> tuple[Shape, int]:
    """Checks the tensors of a selection against each other.

    Returns:
        The broadcast shape of bias and restrictions, and `query_len`: as given, or what the tensors
        say.
    """
    batch, _, queries, keys = bias.shape
    if mask is not None and known(batch == 1):
        batch = mask.shape[0]
    if lengths is not None and known(batch == 1):
        batch = lengths.shape[0]
    if mask is not None and len(mask.shape) == 4:
        keys = mask.shape[3] if known(keys == 1) else keys
        queries = mask.shape[2] if known(queries == 1) else queries
    query_len = queries if query_len is None else query_len
    check_sizes(bias, mask, (batch, query_len, keys))
    if lengths is not None and known(lengths.shape[0] != 1) and known(lengths.shape[0] != batch):
        raise ValueError(
            f"key_lengths of shape {tuple(lengths.shape)} contradicts batch_size={batch}: "
            f"dimension 0 must be {batch} or 1"
        )
    _, heads, queries, keys = mask_shape(bias, mask, keys)
    return (batch, heads, queries, keys), query_len


def check_bounds(bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta) -> None:
    """Checks the threshold and cutoff of `select` against the bias that they were made of."""
    check_bias(bias)
    for name, tensor in (("threshold", threshold), ("cutoff", cutoff)):
        if len(tensor.shape) != 3:
            raise ValueError(f"{name} must be 3-D [B, H, Lq], got shape {tuple(tensor.shape)}")
        check_device(tensor, bias, "attention_bias", name)
    if any(known(a != b) for a, b in zip(threshold.shape, cutoff.shape, strict=True)):
        raise ValueError(
            f"threshold and cutoff must have one shape, got {tuple(threshold.shape)} "
            f"and {tuple(cutoff.shape)}"
        )


# ------------------------------------------------------------------ indices


def check_indices(indices: TensorMeta, key_len: int, block_size: int) -> None:
    if indices.dtype not in INDEX_DTYPES:
        raise TypeError(f"indices must be int32 or int64, got {indices.dtype}")
    if len(indices.shape) != 4:
        raise ValueError(
            f"indices must be 4-D ({{B|1}}, {{H|1}}, {{Lq|1}}, K), got shape {tuple(indices.shape)}"
        )
    check_not_negative("key_len", key_len)
    check_positive("block_size", block_size)


def check_composed(mask: TensorMeta, indices: TensorMeta, key_len: int, block_size: int) -> Shape:
    """Checks a mask that is composed with one made of indices; returns the shape of both."""
    check_indices(indices, key_len, block_size)
    named = indices._replace(shape=(*indices.shape[:3], key_len))
    if not mask.dtype.is_floating_point:
        check_mask_dtype(mask)
    check_device(mask, named, "indices")
    if len(mask.shape) != 4:
        raise ValueError(f"attention_mask must be 4-D {_SHAPE_4D}, got shape {tuple(mask.shape)}")
    return mask_shape(named, mask, name="indices (as a mask)")


# ------------------------------------------------------------------ strategies


def check_strategy_result(name: str, kept: object, shape: Shape) -> None:
    """Checks what a registered strategy returned: it is code of the user."""
    if not isinstance(kept, Tensor) or kept.dtype is not torch.bool:
        what = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
        raise TypeError(f"strategy {name!r} must return a bool tensor, got {what}")
    if kept.dim() != 4 or any(k not in (1, n) for k, n in zip(kept.shape, shape, strict=True)):
        raise ValueError(
            f"strategy {name!r} must return a mask that broadcasts to {tuple(shape)}, "
            f"got shape {tuple(kept.shape)}"
        )
