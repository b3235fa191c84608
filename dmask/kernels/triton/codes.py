"""Codes: integers that sort like scores."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def score_of(code, dtype: tl.constexpr):
    """Returns the score of a code, as float32."""
    if dtype == tl.float32:
        bits = tl.where(code < 0, code ^ 0x7FFFFFFF, code)
        return bits.to(tl.float32, bitcast=True)
    bits = tl.where(code < 0, code ^ 0x7FFF, code)
    if dtype == tl.bfloat16:
        return (bits << 16).to(tl.float32, bitcast=True)
    return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def code_of(score, dtype: tl.constexpr):
    """Returns the code of a float32 in `dtype`. -0.0 gets the code of 0.0.

    Rounds to the nearest float16, but down to bfloat16: its code is a part of the bits.
    """
    score += 0.0
    if dtype == tl.float16:
        half = score.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32)
        return tl.where(half < 0, half ^ 0x7FFF, half)
    bits = score.to(tl.int32, bitcast=True)
    code = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    if dtype == tl.bfloat16:
        return code >> 16
    return code


@triton.jit
def code_with_nan(score):
    """Returns the code of a float32. The code of NaN is above all others."""
    return tl.where(score != score, 0x7FFFFFFF, code_of(score, tl.float32))


@triton.jit
def infinity(dtype: tl.constexpr):
    """Returns the code of infinity, above which there is only NaN."""
    if dtype == tl.float32:
        return 0x7F800000
    if dtype == tl.bfloat16:
        return 0x7F80
    return 0x7C00
