"""Codes: integers that sort like the scores they represent, in the order of the selection rule.

A code is computed from the bits of a score. The bits of a positive float sort like the float and
are its code. Those of a negative float are negated, so that -0.0 equals +0.0. All NaNs have the
same code, above all others. `loops.encode` encodes whole rows.
"""

from __future__ import annotations

from functools import cache, lru_cache
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
    """The codes that bound the scores that are ranked."""

    floor: int
    """This code and lower codes are never kept."""
    infinity: int
    """Higher codes are NaN."""


@lru_cache(maxsize=64)
def limits_of(floor: float, dtype: torch.dtype) -> Limits:
    """Returns the limits of a dtype, with the floor rounded as in `masked_fill`."""
    return Limits(_code_of(floor, dtype), _code_of(torch.inf, dtype))


def bits(scores: Tensor) -> Tensor:
    """Returns a view of the bits of scores."""
    return scores.view(_INTEGERS[scores.dtype])


def codes_of(scores: Tensor, infinity: int) -> NDArray[Any]:
    """Returns the codes of scores, in one dimension."""
    pattern = bits(scores.contiguous()).numpy().reshape(-1)
    codes = np.where(pattern < 0, _lowest(scores.dtype) - pattern, pattern)
    codes[np.abs(codes) > infinity] = _highest(scores.dtype)
    return codes


def scores(codes: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """Returns the scores that codes represent."""
    pattern = np.where(codes < 0, _lowest(dtype) - codes, codes)
    return torch.from_numpy(pattern).view(dtype)


def _code_of(number: float, dtype: torch.dtype) -> int:
    pattern = int(bits(torch.tensor([number], dtype=dtype, device="cpu")).item())
    return pattern if pattern >= 0 else _lowest(dtype) - pattern


@cache
def _lowest(dtype: torch.dtype) -> int:
    return torch.iinfo(_INTEGERS[dtype]).min


@cache
def _highest(dtype: torch.dtype) -> int:
    return torch.iinfo(_INTEGERS[dtype]).max
