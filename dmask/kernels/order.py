"""Scores as integers of their size that sort in the order of the selection rule.

The bits of a float sort like the float once those of negatives are turned round. As integers they
sort up to three times faster with NumPy than as floats; NaN is one key, above all others, and -0.0
is +0.0.
"""

from __future__ import annotations

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
    np.right_shift(bits, 8 * bits.itemsize - 1, out=sign)  # 0 or -1
    np.bitwise_and(sign, nan(bits.dtype), out=keys)
    keys ^= bits
    keys -= sign
    if keys.max(initial=0) > infinity or keys.min(initial=0) < -infinity:
        keys[(keys > infinity) | (keys < -infinity)] = nan(keys.dtype)


def key_of(number: float, dtype: torch.dtype) -> int:
    """The key of a number, rounded to `dtype` as `masked_fill` rounds it."""
    return int(keys(bits(torch.tensor([number], dtype=dtype, device="cpu")), dtype)[0])


def scores(keys: Array, dtype: torch.dtype) -> Tensor:
    """The scores that keys stand for."""
    bits = np.where(keys < 0, np.iinfo(keys.dtype).min - keys, keys)
    return torch.from_numpy(bits.astype(keys.dtype, copy=False)).view(dtype)


def nan(dtype: np.dtype[Any]) -> int:
    """The key of NaN, the largest there is."""
    return int(np.iinfo(dtype).max)


def forbid(keys: Array, allowed: NDArray[np.bool_]) -> Array:
    """Gives forbidden keys a key below that of -inf. The two broadcast; `keys` is overwritten where
    it has the shape of the result.
    """
    shape = np.broadcast_shapes(keys.shape, allowed.shape)
    if keys.shape != shape:
        grown = scratch("grown", shape, keys.dtype)
        np.copyto(grown, keys)
        keys = grown
    # Most masks forbid whole columns of a box, which are cut off by now, and a few columns in part.
    columns = np.flatnonzero(~np.logical_and.reduce(allowed, axis=(0, 1, 2)))
    if columns.size:
        some = slice(columns[0], columns[-1] + 1)
        _forbid(keys[..., some], allowed[..., some])
    return keys


def _forbid(keys: Array, allowed: NDArray[np.bool_]) -> None:
    # No branch per element, with which np.where takes ten times as long on a mask of no pattern.
    lowest = np.arange(keys.shape[-1], dtype=keys.dtype) % _SPREAD + np.iinfo(keys.dtype).min
    forbidden = scratch("sign", allowed.shape, keys.dtype)
    np.copyto(forbidden, allowed)
    forbidden -= 1  # 0 or -1
    keys |= forbidden
    keys ^= forbidden & ~lowest
