# mypy: no-warn-return-any
"""Loops over one row that Numba compiles to vector instructions.

They branch only to select a value, and every integer is as narrow as the codes: a vector
instruction processes 32 codes of 16 bits, but only 8 if one operand is an `int64`. Arguments arrive
as `int` and are narrowed first: with a wide `infinity`, `encode` took three times as long for 16
bits.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Array = NDArray[Any]
Flags = NDArray[np.bool_]

_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
_DIGEST = sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]

# A 16-bit counter can count a block of this size.
COUNTED = 2**14
# Ties are searched in blocks: long enough for vector instructions, short enough for a final scan.
TIE_BLOCK = 128


def compiled(function: F) -> F:
    """Compiles on first call; cached on disk if the cache directory is writable.

    Numba caches a function by its qualified name and checks only the function's file for changes.
    A digest of all files in that name keeps callers from using an outdated loop.
    """
    function.__qualname__ += f"_{_DIGEST}"
    try:
        result: F = numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # neither the package's directory nor the user's cache is writable
        result = numba.njit(function, nogil=True)
    return result


@compiled
def encode(bits: Array, infinity: int, codes: Array) -> None:
    """Writes the codes of a row of bits."""
    narrow = codes.dtype.type
    largest, infinite = narrow(np.iinfo(codes.dtype).max), narrow(infinity)
    for j in range(len(codes)):
        magnitude = narrow(bits[j] & largest)
        code = narrow(magnitude if bits[j] >= 0 else -magnitude)
        codes[j] = narrow(largest if magnitude > infinite else code)


@compiled
def forbid(codes: Array, allowed: Flags) -> None:
    """Assigns the lowest code to the keys that are not allowed."""
    narrow = codes.dtype.type
    lowest = narrow(np.iinfo(codes.dtype).min)
    for j in range(len(codes)):
        codes[j] = narrow(codes[j] if allowed[j] else lowest)


@compiled
def keep_from(codes: Array, threshold: int, kept: Flags) -> None:
    """Marks the codes that reach a threshold."""
    least = codes.dtype.type(threshold)
    for j in range(len(codes)):
        kept[j] = codes[j] >= least


@compiled
def keep_above(codes: Array, threshold: int, kept: Flags) -> None:
    """Marks the codes above a threshold."""
    last = codes.dtype.type(threshold)
    for j in range(len(codes)):
        kept[j] = codes[j] > last


@compiled
def also_keep_above(codes: Array, threshold: int, kept: Flags) -> None:
    """Marks the codes above a threshold, in addition to what is marked."""
    last = codes.dtype.type(threshold)
    for j in range(len(codes)):
        kept[j] |= codes[j] > last


@compiled
def keep_allowed(allowed: Flags, kept: Flags) -> None:
    """Removes the marks of keys that are not allowed."""
    for j in range(len(kept)):
        kept[j] &= allowed[j]


@compiled
def add_flags(flags: Flags, totals: NDArray[np.int32]) -> None:
    """Adds 1 to the totals of flagged keys."""
    for j in range(len(flags)):
        totals[j] += flags[j]


@compiled
def count_from(codes: Array, threshold: int) -> int:
    """Returns the number of codes that reach a threshold."""
    least = codes.dtype.type(threshold)
    total = 0
    for start in range(0, len(codes), COUNTED):
        total += _count_block(codes[start : start + COUNTED], least)
    return total


@compiled
def _count_block(codes: Array, least: int) -> int:
    narrow = codes.dtype.type
    count = narrow(0)
    for j in range(len(codes)):
        count = narrow(count + narrow(codes[j] >= least))
    return count


@compiled
def count_equal(codes: Array, number: int) -> int:
    """Returns the number of codes in a block that equal a number."""
    narrow = codes.dtype.type
    wanted, count = narrow(number), narrow(0)
    for j in range(len(codes)):
        count = narrow(count + narrow(codes[j] == wanted))
    return count


@compiled
def least_from(codes: Array, threshold: int) -> int:
    """Returns the smallest code that reaches a threshold, or the largest integer if none does."""
    narrow = codes.dtype.type
    least, largest = narrow(threshold), narrow(np.iinfo(codes.dtype).max)
    found = largest
    for j in range(len(codes)):
        code = narrow(codes[j] if codes[j] >= least else largest)
        found = narrow(code if code < found else found)
    return found


@compiled
def last_kept(codes: Array, threshold: int, excess: int) -> int:
    """Returns the index of the last code at the threshold after dropping the last `excess` such
    codes: ties go to the lowest index.
    """
    end = len(codes)
    ties = count_equal(codes[max(end - TIE_BLOCK, 0) : end], threshold)
    while ties <= excess:
        excess -= ties
        end = max(end - TIE_BLOCK, 0)
        ties = count_equal(codes[max(end - TIE_BLOCK, 0) : end], threshold)
    j = end - 1
    while excess or codes[j] != threshold:
        excess -= codes[j] == threshold
        j -= 1
    return j
