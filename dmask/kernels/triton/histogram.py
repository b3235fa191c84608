"""The threshold of few scores, found by their histogram.

A step splits a range of codes into 64 bins, and goes on with the bin that the threshold is in. So a
search takes two to four steps, whatever the scores are: this is radix selection (Alabi et al.,
"Fast k-Selection Algorithms for Graphics Processing Units", 2012), except that digits start at
the smallest and the largest score. Counting at two codes (`search`) takes twice as many steps. But
a histogram costs more per score, so for more scores than `MOST`, counting is faster.
"""

from __future__ import annotations

import triton
import triton.language as tl

MOST = tl.constexpr(2048)
BITS, BINS = tl.constexpr(6), tl.constexpr(64)


@triton.jit
def shift_of(low, high):
    """Returns by how many bits to shift the codes of a range, so that they fit in a digit."""
    width = (high - low).to(tl.uint32, bitcast=True).to(tl.float32)
    exponent = (width.to(tl.int32, bitcast=True) >> 23) - 127
    return tl.maximum(exponent + 1 - BITS, 0)


@triton.jit
def histogram(bins, BINS: tl.constexpr):
    """Counts the numbers 0 to `BINS - 1` of a tile `[R, C]`. Others must be -1."""
    # The mask must come from the same `ravel`: Triton 3.6 reorders the numbers, but not the mask.
    flat = tl.ravel(bins)
    return tl.histogram(flat, BINS, mask=flat >= 0)


@triton.jit
def digit_reached(digits, budget, beyond):
    """Returns the largest digit that `budget` codes reach.

    Args:
        digits: int32 `[R, C]`; -1 for codes that are not in the range.
        beyond: how many codes are above the range.

    Returns:
        The digit, how many codes reach it, and how many are above it.
    """
    counts = histogram(digits, BINS)
    reaching = beyond + tl.cumsum(counts, 0, reverse=True)
    # The smallest sufficient number, and the largest of its digits, in one reduction.
    order = BINS - 1 - tl.arange(0, BINS)
    key = (reaching.to(tl.int64) << 32) | (order.to(tl.int64) << 24) | counts
    best = tl.min(tl.where(reaching >= budget, key, 0x7FFFFFFFFFFFFFFF), 0)
    reaching = (best >> 32).to(tl.int32)
    digit = BINS - 1 - ((best >> 24) & 0xFF).to(tl.int32)
    return digit, reaching, reaching - (best & 0xFFFFFF).to(tl.int32)


@triton.jit
def search_histogram(codes, budget, slack, low, high, reaching):
    """Narrows a range of codes until at least `budget` codes, and at most `slack` more, reach its
    lower end.

    Args:
        codes: int32 `[R, C]`.
        low, high: the range. No code is above it, and `reaching` codes reach `low`.

    Returns:
        `low, reaching, beyond`. `reaching` exceeds `budget + slack` only if codes tie at `low`.
        Then `beyond` codes are above it.
    """
    beyond = reaching * 0
    while (reaching > budget + slack) & (low < high):
        shift = shift_of(low, high)
        digit = ((codes - low).to(tl.uint32, bitcast=True) >> shift.to(tl.uint32)).to(tl.int32)
        digit = tl.where((codes >= low) & (codes <= high), digit, -1)
        digit, reaching, beyond = digit_reached(digit, budget, beyond)
        low += digit << shift
        rest = (high - low).to(tl.uint32, bitcast=True)  # a sum with `low` could be too large
        high = low + tl.minimum(rest, ((1 << shift) - 1).to(tl.uint32)).to(tl.int32)
    return low, reaching, beyond
