"""Every check and every message.

Shape legend, used in every docstring of dmask::

    B batch    H query heads    KVH key/value heads (H = KVH * groups)    Lq queries    Lk keys

Checks see a tensor's shape, dtype and device and nothing else (`TensorMeta`). They run on fake
tensors exactly as on real ones, so that a compiled call fails with the text of the eager one,
before any work; and a check that has passed need not be made again for the same call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

TIE_BREAKS = ("lowest", "torch")

_MASK_DTYPES = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)
INDEX_DTYPES = (torch.int32, torch.int64)
_SHAPE_4D = "({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})"

Shape = tuple[int, int, int, int]
Sizes = tuple[int, int, int]
"""`(batch_size, query_len, key_len)`."""


class TensorMeta(NamedTuple):
    """What checks may know of a tensor."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def meta(tensor: Tensor) -> TensorMeta:
    # Not TensorMeta(...): its __new__ is a Python function, and this is called for every mask.
    return tuple.__new__(TensorMeta, (tensor.shape, tensor.dtype, tensor.device))


def optional_meta(tensor: Tensor | None) -> TensorMeta | None:
    return None if tensor is None else meta(tensor)


# ------------------------------------------------------------------ arguments


def unknown(what: str, given: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that is not in a list of names."""
    return ValueError(f"unknown {what} {given!r}; expected one of {tuple(valid)!r}")


def check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_share(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}")


def check_call(
    dtype: torch.dtype,
    window_size: int | None = None,
    min_dtype: float | None = None,
    tie_break: str = "torch",
) -> float:
    """Checks what every mask is made with beside its tensors, and returns the floor."""
    if window_size is not None:
        check_positive("window_size", window_size)
    if tie_break not in TIE_BREAKS:
        raise unknown("tie_break", tie_break, TIE_BREAKS)
    return floor_of(min_dtype, dtype)


def floor_of(min_dtype: float | None, dtype: torch.dtype) -> float:
    """The score of a forbidden key: `min_dtype`, or the smallest finite value of `dtype`.

    A value between two values of `dtype` counts as the nearer one, as with `masked_fill`.
    """
    limits = torch.finfo(dtype)
    if min_dtype is None:
        return limits.min
    if math.isnan(min_dtype):
        raise ValueError(f"min_dtype must be a number that {dtype} can hold, got {min_dtype}")
    if not math.isinf(min_dtype) and not limits.min <= min_dtype <= limits.max:
        raise ValueError(
            f"min_dtype must be a number that {dtype} can hold "
            f"({limits.min:g} to {limits.max:g}), got {min_dtype:g}"
        )
    return min_dtype


# ------------------------------------------------------------------ one tensor


def check_bias(bias: TensorMeta) -> None:
    if not bias.dtype.is_floating_point:
        raise TypeError(f"attention_bias must have a floating dtype, got {bias.dtype}")
    if len(bias.shape) != 4:
        raise ValueError(f"attention_bias must be 4-D {_SHAPE_4D}, got shape {tuple(bias.shape)}")


def _check_mask_dtype(mask: TensorMeta) -> None:
    if mask.dtype in _MASK_DTYPES:
        return
    hint = ""
    if mask.dtype.is_floating_point:
        hint = "; an additive mask becomes one with `attention_mask == 0`"
    raise TypeError(
        "attention_mask must be bool (True = may be attended) or integer 0/1, "
        f"got {mask.dtype}{hint}"
    )


# ------------------------------------------------------------------ bias and mask


def check_mask_4d(
    mask: TensorMeta | None, beside: TensorMeta, name: str = "attention_bias"
) -> None:
    """Checks a mask that has to be 4-D already, beside the tensor called `name`."""
    if mask is None:
        return
    _check_mask_dtype(mask)
    check_device(mask, beside, name)
    if len(mask.shape) != 4:
        raise ValueError(
            f"attention_mask must be 4-D {_SHAPE_4D}, got shape {tuple(mask.shape)}; "
            "create_mask takes (B, S) masks too"
        )


def check_device(
    tensor: TensorMeta, beside: TensorMeta, beside_name: str, name: str = "attention_mask"
) -> None:
    if tensor.device != beside.device:
        raise ValueError(
            f"{beside_name} and {name} must be on one device, "
            f"got {beside.device} and {tensor.device}"
        )


def check_heads(name: str, tensor: TensorMeta, heads: int) -> None:
    """Checks that a 4-D tensor's heads repeat to `heads`."""
    own = tensor.shape[1]
    if own != heads and (own == 0 or heads % own != 0):
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} must have a number of heads that divides "
            f"{heads}, got {own}"
        )


def check_sizes(bias: TensorMeta, mask: TensorMeta | None, sizes: Sizes) -> None:
    """Checks `batch_size`, `query_len` and `key_len` against the tensors they describe."""
    for name, size in zip(("batch_size", "query_len", "key_len"), sizes, strict=True):
        if size < 0:
            raise ValueError(f"{name} must not be negative, got {size}")
    _check_sizes_4d("attention_bias", bias, sizes)
    check_mask(mask, bias, "attention_bias", sizes)


def check_mask(mask: TensorMeta | None, beside: TensorMeta, name: str, sizes: Sizes) -> None:
    """Checks a 2-D or 4-D mask for `sizes`, beside the tensor called `name`."""
    if mask is None:
        return
    _check_mask_dtype(mask)
    check_device(mask, beside, name)
    if len(mask.shape) == 4:
        _check_sizes_4d("attention_mask", mask, sizes)
    elif len(mask.shape) == 2:
        _check_sizes_2d(mask, sizes)
    else:
        raise ValueError(
            f"attention_mask must be 2-D (B, S) or 4-D {_SHAPE_4D}, got shape {tuple(mask.shape)}"
        )


def _check_sizes_4d(name: str, tensor: TensorMeta, sizes: Sizes) -> None:
    for dim, expected, size_name in zip(
        (0, 2, 3), sizes, ("batch_size", "query_len", "key_len"), strict=True
    ):
        if tensor.shape[dim] != expected and tensor.shape[dim] != 1:
            raise ValueError(
                f"{name} of shape {tuple(tensor.shape)} contradicts {size_name}={expected}: "
                f"dimension {dim} must be {expected} or 1"
            )


def _check_sizes_2d(mask: TensorMeta, sizes: Sizes) -> None:
    batch_size, query_len, key_len = sizes
    batch, length = mask.shape
    given = f"attention_mask of shape {tuple(mask.shape)}"
    if batch != batch_size and batch != 1:
        raise ValueError(
            f"{given} contradicts batch_size={batch_size}: dimension 0 must be {batch_size} or 1"
        )
    if length == key_len:
        return
    if length != query_len:
        raise ValueError(
            f"{given} must cover key_len={key_len} or query_len={query_len} positions, got {length}"
        )
    if key_len < query_len:
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
    """The shape of a mask made of the two: their broadcast shape, heads repeating per group.

    `mask` is 2-D or 4-D. `key_len` is the last dimension; without it the tensors say how many keys
    there are. `name` is what errors call the first tensor.
    """

    if mask is None:
        batch, heads, queries, keys = bias.shape
        return batch, heads, queries, keys if key_len is None else key_len

    def broadcast(dim: int, a: int, b: int) -> int:
        if a == b or b == 1:
            return a
        if a == 1:
            return b
        more, fewer = (a, b) if a > b else (b, a)
        if dim == 1 and fewer != 0 and more % fewer == 0:
            return more
        why = f"dimension {dim} is {a} and {b}"
        if dim == 1:
            why = f"of the head counts {a} and {b} neither divides the other"
        raise ValueError(
            f"shapes {tuple(bias.shape)} and {tuple(mask.shape)} of {name} and attention_mask "
            f"do not broadcast: {why}"
        )

    other = mask.shape if len(mask.shape) == 4 else (mask.shape[0], 1, 1, bias.shape[3])
    batch, heads, queries, keys = map(broadcast, range(4), bias.shape, other)
    return batch, heads, queries, keys if key_len is None else key_len


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


def check_key_lengths(lengths: TensorMeta | None, beside: TensorMeta) -> None:
    if lengths is None:
        return
    if lengths.dtype not in INDEX_DTYPES:
        raise TypeError(f"key_lengths must be int32 or int64, got {lengths.dtype}")
    check_device(lengths, beside, "attention_bias", "key_lengths")
    if len(lengths.shape) != 1:
        raise ValueError(f"key_lengths must be 1-D (B,), got shape {tuple(lengths.shape)}")


def check_always_kept(window_size: int, sinks: int, local: int) -> None:
    for name, value in (("sinks", sinks), ("local", local)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    if sinks + local > window_size:
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
    keys = bias.shape[3]
    if mask is not None and len(mask.shape) == 4 and keys == 1:
        keys = mask.shape[3]
    if query_len is None:
        query_len = bias.shape[2]
        if mask is not None and len(mask.shape) == 4 and query_len == 1:
            query_len = mask.shape[2]
    batches = [tensor.shape[0] for tensor in (bias, mask, lengths) if tensor is not None]
    batch = next((size for size in batches if size != 1), 1)
    check_sizes(bias, mask, (batch, query_len, keys))
    if lengths is not None and lengths.shape[0] not in (1, batch):
        raise ValueError(
            f"key_lengths of shape {tuple(lengths.shape)} contradicts batch_size={batch}: "
            f"dimension 0 must be {batch} or 1"
        )
    _, heads, queries, keys = mask_shape(bias, mask, keys)
    return (batch, heads, queries, keys), query_len


def check_bounds(bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta) -> None:
    """Checks what `select` gave, handed back with the bias it was made of."""
    check_bias(bias)
    for name, tensor in (("threshold", threshold), ("cutoff", cutoff)):
        if len(tensor.shape) != 3:
            raise ValueError(f"{name} must be 3-D [B, H, Lq], got shape {tuple(tensor.shape)}")
        check_device(tensor, bias, "attention_bias", name)
    if threshold.shape != cutoff.shape:
        raise ValueError(
            f"threshold and cutoff must have one shape, got {tuple(threshold.shape)} "
            f"and {tuple(cutoff.shape)}"
        )


def check_indices(indices: TensorMeta, key_len: int, block_size: int) -> None:
    if indices.dtype not in INDEX_DTYPES:
        raise TypeError(f"indices must be int32 or int64, got {indices.dtype}")
    if len(indices.shape) != 4:
        raise ValueError(
            f"indices must be 4-D ({{B|1}}, {{H|1}}, {{Lq|1}}, K), got shape {tuple(indices.shape)}"
        )
    if key_len < 0:
        raise ValueError(f"key_len must not be negative, got {key_len}")
    check_positive("block_size", block_size)


def check_composed(mask: TensorMeta, named: TensorMeta) -> Shape:
    """Checks a mask that is composed with one made of indices; returns the shape of both."""
    if not mask.dtype.is_floating_point:
        _check_mask_dtype(mask)
    check_device(mask, named, "indices")
    if len(mask.shape) != 4:
        raise ValueError(f"attention_mask must be 4-D {_SHAPE_4D}, got shape {tuple(mask.shape)}")
    return mask_shape(named, mask, name="indices (as a mask)")


def check_strategy_result(name: str, kept: object, shape: Shape) -> None:
    """A registered strategy is somebody else's code: its result is checked before it is used."""
    if not isinstance(kept, Tensor) or kept.dtype is not torch.bool:
        what = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
        raise TypeError(f"strategy {name!r} must return a bool tensor, got {what}")
    if kept.dim() != 4 or any(k not in (1, n) for k, n in zip(kept.shape, shape, strict=True)):
        raise ValueError(
            f"strategy {name!r} must return a mask that broadcasts to {tuple(shape)}, "
            f"got shape {tuple(kept.shape)}"
        )
