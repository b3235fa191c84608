"""Checks of shapes, dtypes, devices and values that several ops share.

Shape legend, used in every docstring of dmask::

    B batch    H query heads    KVH key/value heads (H = KVH * groups)    Lq queries    Lk keys

Checks see only the shape, dtype and device of a tensor (`TensorMeta`). They run on fake tensors
exactly as on real ones, so that a compiled call fails with the same message as an eager one, before
any work is done. A call that has passed its checks need not be checked again.

Comparisons of sizes that raise an error go through `known`, because a size may be unbacked: what is
unknown while tracing is checked when the op runs. In checks that every call executes, a test with
`is not False` comes first, because it spares plain integers a Python function call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dmask.compat import known, size_hint

TIE_BREAKS = ("lowest", "torch")
INDEX_DTYPES = (torch.int32, torch.int64)

_MASK_DTYPES = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)
SHAPE_4D = "({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})"

Shape = tuple[int, int, int, int]
Sizes = tuple[int, int, int]
"""`(batch_size, query_len, key_len)`."""


class TensorMeta(NamedTuple):
    """The properties of a tensor that checks may use."""

    shape: torch.Size | tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def describe(value: Any) -> Any:
    """Returns the `TensorMeta` of a tensor, and any other value unchanged."""
    return meta(value) if isinstance(value, Tensor) else value


def meta(tensor: Tensor) -> TensorMeta:
    return TensorMeta(tensor.shape, tensor.dtype, tensor.device)


def with_hints(value: Any) -> Any:
    """Replaces symbolic sizes in a result of `describe` with numbers, for an error message."""
    if isinstance(value, TensorMeta):
        return value._replace(shape=tuple(map(with_hints, value.shape)))
    if isinstance(value, torch.SymInt):
        hint = size_hint(value)
        return value if hint is None else hint
    return value


def optional_meta(tensor: Tensor | None) -> TensorMeta | None:
    return None if tensor is None else meta(tensor)


# ------------------------------------------------------------------ values of arguments


def unknown(what: str, given: object, valid: Iterable[str]) -> ValueError:
    """Returns the error for a name that is not one of the valid names."""
    return ValueError(f"unknown {what} {given!r}; expected one of {tuple(valid)!r}")


def check_positive(name: str, value: int) -> None:
    if known(value < 1):
        raise ValueError(f"{name} must be at least 1, got {value}")
    check_64_bits(name, value)


def check_not_negative(name: str, value: int) -> None:
    if known(value < 0):
        raise ValueError(f"{name} must be non-negative, got {value}")
    check_64_bits(name, value)


def check_int32(name: str, value: int) -> None:
    # As below: a symbolic number is not compared.
    if (value >= 2**31) is True or (value < -(2**31)) is True:
        raise ValueError(f"{name} must fit in int32, got {value}")


def check_64_bits(name: str, value: int) -> int:
    # Symbolic numbers always fit, and comparing them would add a guard.
    if (value >= 2**63) is True or (value < -(2**63)) is True:
        raise ValueError(f"{name} must fit in 64 bits, got {value}")
    return value


def check_share(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be greater than 0 and at most 1, got {value}")


def check_call(
    dtype: torch.dtype,
    window_size: int | None = None,
    min_dtype: float | None = None,
    tie_break: str = "torch",
) -> float:
    """Checks the arguments that all mask ops share, except the tensors. Returns the floor."""
    if window_size is not None and not (type(window_size) is int and 0 < window_size < 2**63):
        check_positive("window_size", window_size)
    if tie_break not in TIE_BREAKS:
        raise unknown("tie_break", tie_break, TIE_BREAKS)
    return torch.finfo(dtype).min if min_dtype is None else floor_of(min_dtype, dtype)


def floor_of(min_dtype: float, dtype: torch.dtype, name: str = "min_dtype") -> float:
    """Rounds `min_dtype`, the score of a forbidden key, to a number that `dtype` represents.

    Rounds to the nearest number, as `masked_fill` does.

    >>> floor_of(0.1, torch.float16), floor_of(-1e-30, torch.float8_e5m2)
    (0.0999755859375, -0.0)
    """
    limits = torch.finfo(dtype)
    if math.isnan(min_dtype):
        raise ValueError(f"{name} must be a number that {dtype} can represent, got {min_dtype}")
    if math.isinf(min_dtype):
        return float(min_dtype)
    if not limits.min <= min_dtype <= limits.max:
        raise ValueError(
            f"{name} must be a number that {dtype} can represent "
            f"({limits.min:g} to {limits.max:g}), got {min_dtype:g}"
        )
    # Computed in Python, because under some modes a new tensor would be fake or on another device.
    _, exponent = math.frexp(min_dtype)
    # torch.finfo gives this dtype the eps of three mantissa bits; it has two.
    eps = 0.25 if dtype is torch.float8_e5m2fnuz else limits.eps
    unit = eps * max(2.0 ** (exponent - 1), limits.smallest_normal)
    return math.copysign(round(min_dtype / unit) * unit, min_dtype)


# ------------------------------------------------------------------ one tensor


def check_bias(bias: TensorMeta) -> None:
    if not bias.dtype.is_floating_point:
        raise TypeError(f"attention_bias must have a floating-point dtype, got {bias.dtype}")
    if len(bias.shape) != 4:
        raise ValueError(f"attention_bias must be 4-D {SHAPE_4D}, got shape {tuple(bias.shape)}")


def check_mask_dtype(mask: TensorMeta) -> None:
    if mask.dtype in _MASK_DTYPES:
        return
    hint = ""
    if mask.dtype.is_floating_point:
        hint = "; convert an additive mask with `attention_mask == 0`"
    raise TypeError(
        "attention_mask must be bool (True = may be attended to) or integer 0/1, "
        f"got {mask.dtype}{hint}"
    )


# ------------------------------------------------------------------ bias and mask


def check_mask_4d(mask: TensorMeta | None, other: TensorMeta, name: str = "attention_bias") -> None:
    """Checks a mask that must be 4-D against another tensor, called `name`."""
    if mask is None:
        return
    check_mask_dtype(mask)
    check_device(mask, other, name)
    if len(mask.shape) != 4:
        raise ValueError(
            f"attention_mask must be 4-D {SHAPE_4D}, got shape {tuple(mask.shape)}; "
            "create_mask also accepts (B, S) masks"
        )


def check_device(
    tensor: TensorMeta, other: TensorMeta, other_name: str, name: str = "attention_mask"
) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{other_name} and {name} must be on the same device, "
            f"got {other.device} and {tensor.device}"
        )


def check_heads(name: str, tensor: TensorMeta, heads: int) -> None:
    """Checks that the number of heads of a tensor divides `heads`."""
    own = tensor.shape[1]
    if known(own != heads) and (known(own == 0) or known(heads % own != 0)):
        raise ValueError(
            f"the number of heads of {name} must divide {heads}, got {own} "
            f"(shape {tuple(tensor.shape)})"
        )


def check_sizes(bias: TensorMeta, mask: TensorMeta | None, sizes: Sizes) -> None:
    """Checks `batch_size`, `query_len` and `key_len` against the tensors they describe."""
    for name, size in zip(("batch_size", "query_len", "key_len"), sizes, strict=True):
        if (size < 0) is not False and known(size < 0):
            raise ValueError(f"{name} must be non-negative, got {size}")
    _check_sizes_4d("attention_bias", bias, sizes)
    if mask is not None:
        check_mask(mask, bias, "attention_bias", sizes)


def check_mask(mask: TensorMeta | None, other: TensorMeta, name: str, sizes: Sizes) -> None:
    """Checks a 2-D or 4-D mask against `sizes` and against another tensor, called `name`."""
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
            f"attention_mask must be 2-D (B, S) or 4-D {SHAPE_4D}, got shape {tuple(mask.shape)}"
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
        key_len: the last dimension. Default: the number of keys of the tensors.
        name: the name of the first tensor in errors.
    """
    sizes = list(bias.shape)
    if mask is not None:
        others = mask.shape[:1] if len(mask.shape) == 2 else mask.shape
        for dim, size in enumerate(others):
            if (sizes[dim] == size) is not True:
                sizes[dim] = _broadcast(dim, sizes[dim], size, bias, mask, name)
    batch, heads, queries, keys = sizes
    return batch, heads, queries, keys if key_len is None else key_len


def _broadcast(dim: int, a: int, b: int, bias: TensorMeta, mask: TensorMeta, name: str) -> int:
    """Returns the broadcast size of a dimension whose sizes are not known to be equal. Assumes that
    unbacked sizes are.
    """
    if known(b == 1):
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
        why = f"neither of the head counts {a} and {b} divides the other"
    raise ValueError(
        f"shapes {tuple(bias.shape)} and {tuple(mask.shape)} of {name} and attention_mask "
        f"do not broadcast: {why}"
    )
