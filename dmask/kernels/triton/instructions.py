"""Single instructions of a GPU that Triton's language or its interpreter lacks."""

from __future__ import annotations

import os

import triton
import triton.language as tl
from triton.language.extra import libdevice

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""True in the interpreter, which has no libdevice, no PTX, and its own rules for NaN."""


@triton.jit
def saturate(x):
    """Clamps to [0, 1], and NaN to 0. On a GPU, this modifies the instruction before it."""
    if INTERPRETED:
        return tl.where(x >= 1.0, 1.0, tl.where(x > 0.0, x, 0.0))
    return libdevice.saturatef(x)


@triton.jit
def without_nan(scores):
    """Replaces NaN with infinity, which counts as the largest score."""
    if INTERPRETED:
        return tl.where(scores != scores, float("inf"), scores)
    return tl.minimum(scores, float("inf"))


@triton.jit
def product(a, b):
    """Multiplies two float64 and rounds. The compiler must not fuse an addition with it."""
    if INTERPRETED:
        return a * b
    return libdevice.mul_rn(a, b)


@triton.jit
def bit_count(words):
    """Counts the bits of 32-bit integers."""
    if INTERPRETED:
        words -= (words >> 1) & 0x55555555
        words = (words & 0x33333333) + ((words >> 2) & 0x33333333)
        return (((words + (words >> 4)) & 0x0F0F0F0F) * 0x01010101 >> 24) & 0xFF
    return libdevice.popc(words)


@triton.jit
def opaque(number):
    """Hides what the compiler knows about an integer."""
    if INTERPRETED:
        return number
    number += tl.program_id(0) * 0  # turns a constant into a variable
    wide: tl.constexpr = number.dtype == tl.int64
    return tl.inline_asm_elementwise(
        "mov.b64 $0, $1;" if wide else "mov.b32 $0, $1;",
        "=l,l" if wide else "=r,r",
        [number],
        dtype=number.dtype,
        is_pure=True,
        pack=1,
    )


@triton.jit
def flag_pairs(pairs, pair, COMPARISON: tl.constexpr, dtype: tl.constexpr):
    """Compares pairs of 16-bit floats with one pair.

    Args:
        COMPARISON: as in PTX: `"eq"`, or `"geu"` and `"gtu"`, which are true for NaN.

    Returns:
        Integers of which a half has all its bits set if the comparison is true for it.
    """
    if INTERPRETED:
        even = _compare(pairs << 16 >> 16, pair << 16 >> 16, COMPARISON, dtype)
        odd = _compare(pairs >> 16, pair >> 16, COMPARISON, dtype)
        return tl.where(even, 0xFFFF, 0) | tl.where(odd, -0x10000, 0)
    kind: tl.constexpr = "bf16x2" if dtype == tl.bfloat16 else "f16x2"
    return tl.inline_asm_elementwise(
        "set." + COMPARISON + ".u32." + kind + " $0, $1, $2;",
        "=r,r,r",
        [pairs, pair],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )


@triton.jit
def _compare(bits, others, COMPARISON: tl.constexpr, dtype: tl.constexpr):
    if dtype == tl.bfloat16:
        score = (bits << 16).to(tl.float32, bitcast=True)
        other = (others << 16).to(tl.float32, bitcast=True)
    else:
        score = bits.to(tl.int16).to(tl.float16, bitcast=True)
        other = others.to(tl.int16).to(tl.float16, bitcast=True)
    if COMPARISON == "eq":
        return score == other
    if COMPARISON == "geu":
        return (score < other) == 0
    return (score <= other) == 0
