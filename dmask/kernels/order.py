"""Scores as integers that sort in the order of the selection rule.

The bits of a float sort like the float once those of negatives are turned round. As integers they
sort up to three times faster with NumPy than as floats; NaN is one key, above all others, and -0.0
is +0.0. Keys of positive scores are their bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels.parallel import BOX_BYTES, cuts, scratch

Array = NDArray[Any]

_INTEGERS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}
DTYPES = tuple(_INTEGERS)
INFINITY = {
    dtype: int(torch.tensor(torch.inf, dtype=dtype).view(integer).item())
    for dtype, integer in _INTEGERS.items()
}
"""The key of infinity."""
_SIGN_SHIFT = {2: 15, 4: 31, 8: 63}
_LARGEST = {size: 2**shift - 1 for size, shift in _SIGN_SHIFT.items()}
# Quickselect takes up to ten times longer where one key stands in most places: forbidden ones get
# so many different keys, all of them below -inf.
_SPREAD = 64


def bits(scores: Tensor) -> Array:
    """The bits of scores on the CPU, as an array on the same memory."""
    # Autograd is out of the way in a kernel, but a leaf keeps its flag and numpy() would refuse it.
    scores = scores.detach() if scores.requires_grad else scores
    return scores.view(_INTEGERS[scores.dtype]).numpy()


def keys(bits: Array, dtype: torch.dtype) -> Array:
    """The keys of the bits of scores, in `scratch("keys")`."""
    keys = scratch("keys", bits.shape, bits.dtype)
    rows = max(1, bits.size // max(1, bits.shape[-1]))
    for cut in cuts(bits.shape[-1], max(1, BOX_BYTES // (rows * bits.itemsize))):
        _order(bits[..., cut], INFINITY[dtype], keys[..., cut])
    return keys


def _order(bits: Array, infinity: int, keys: Array) -> None:
    sign = scratch("sign", bits.shape, bits.dtype)
    np.right_shift(bits, _SIGN_SHIFT[bits.itemsize], out=sign)  # 0 or -1
    np.bitwise_and(sign, _LARGEST[bits.itemsize], out=keys)
    np.bitwise_xor(keys, bits, out=keys)
    np.subtract(keys, sign, out=keys)
    if keys.max(initial=0) > infinity or keys.min(initial=0) < -infinity:
        keys[(keys > infinity) | (keys < -infinity)] = _LARGEST[bits.itemsize]


def has_negative_nan(bits: Array, dtype: torch.dtype) -> bool:
    """Whether there is a NaN that its bits alone put below the positive numbers."""
    sign_bit = _LARGEST[bits.itemsize] + 1
    return bool(bits.view(f"u{bits.itemsize}").max(initial=0) > INFINITY[dtype] + sign_bit)


@lru_cache(maxsize=64)
def key_of(number: float, dtype: torch.dtype) -> int:
    """The key of a number, rounded to `dtype` as `masked_fill` rounds it."""
    return int(keys(bits(torch.tensor([number], dtype=dtype, device="cpu")), dtype)[0])


def scores(keys: Array, dtype: torch.dtype) -> Tensor:
    """The scores that keys stand for."""
    bits = np.where(keys < 0, -1 - _LARGEST[keys.itemsize] - keys, keys)
    return torch.from_numpy(bits.astype(keys.dtype, copy=False)).view(dtype)


# ------------------------------------------------------------------ forbidden keys


def forbid(keys: Array, allowed: NDArray[np.bool_]) -> None:
    """Overwrites forbidden keys with keys below that of -inf."""
    lowest = _below_all(keys.shape[-1], keys.dtype)
    if _has_long_runs(allowed):
        np.copyto(keys, lowest, where=~allowed)
        return
    # No branch per element, with which the above takes ten times as long on a mask of no pattern.
    forbidden = scratch("forbidden", allowed.shape, keys.dtype)
    np.copyto(forbidden, allowed)
    forbidden -= 1  # 0 or -1
    keys |= forbidden
    keys ^= forbidden & ~lowest


def _has_long_runs(flags: NDArray[np.bool_]) -> bool:
    """Whether flags seldom change along a few rows, as in a causal mask or one of padding."""
    few = flags[:: max(1, len(flags) // 4)]
    return int(np.count_nonzero(few[:, 1:] != few[:, :-1])) <= few.size // 16


@lru_cache(maxsize=64)
def _below_all(width: int, dtype: np.dtype[Any]) -> Array:
    lowest: Array = np.arange(width, dtype=dtype) % _SPREAD - _LARGEST[dtype.itemsize] - 1
    return lowest
