"""How many keys a row keeps, where that depends on its scores."""

from __future__ import annotations

import struct

import triton
import triton.language as tl

from dmask.kernels.triton.instructions import product
from dmask.kernels.triton.search import count_reaching


def bits_of(number: float) -> int:
    """Returns the bits of a float64: kernels take no argument of that type."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


@triton.jit
def share_of_keys(scores, lowest, share, dtype: tl.constexpr):
    """Returns how many keys a share of those that reach the floor are, at least 1.

    The arithmetic is that of `reference.ratio`, in the same order. A row with no such keys keeps
    none, whatever its budget.
    """
    count, _ = count_reaching(scores, lowest, lowest, dtype)
    ratio = share.to(tl.int64).to(tl.float64, bitcast=True)
    wanted = tl.ceil(product(count.to(tl.float64), ratio) - 1e-9)
    return tl.maximum(wanted.to(tl.int32), 1)
