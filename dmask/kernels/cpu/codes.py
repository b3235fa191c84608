"""Scores as integers that sort in the order of the selection rule.

Such a *key* is made of the bits of a score. Those of a positive float sort like the float, and are
its key; those of a negative one are turned round, so that -0.0 is +0.0. NaN is one key, above all
others. `rows.rank` does it for whole rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_INTEGERS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}
DTYPES = tuple(_INTEGERS)


class Limits(NamedTuple):
    """Keys between which there is something to choose."""

    floor: int
    """Neither it nor a lower one is kept."""
    infinity: int
    """A higher one is NaN."""


@lru_cache(maxsize=64)
def limits_of(floor: float, dtype: torch.dtype) -> Limits:
    """The limits of a dtype, the floor rounded to it as `masked_fill` rounds it."""
    return Limits(_key_of(floor, dtype), _key_of(torch.inf, dtype))


def bits(scores: Tensor) -> Tensor:
    """The bits of scores, on the same memory."""
    return scores.view(_INTEGERS[scores.dtype])


def scores(keys: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """The scores that keys stand for."""
    pattern = np.where(keys < 0, _lowest(dtype) - keys, keys)
    return torch.from_numpy(pattern).view(dtype)


def _key_of(number: float, dtype: torch.dtype) -> int:
    pattern = int(bits(torch.tensor([number], dtype=dtype, device="cpu")).item())
    return pattern if pattern >= 0 else _lowest(dtype) - pattern


def _lowest(dtype: torch.dtype) -> int:
    return torch.iinfo(_INTEGERS[dtype]).min
