"""Rows of 16-bit scores, two in each register.

A Hopper multiprocessor compares both scores of a register with one instruction. The result, a
*flag pair*, has all bits of a half set if its score passes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import infinity
from dmask.kernels.triton.instructions import bit_count, flag_pairs
from dmask.kernels.triton.rows import write_packed, write_tail


@triton.jit
def load_pairs(
    line, stride, key, keys, mask, mask_stride, HAS_MASK: tl.constexpr, FULL: tl.constexpr
):
    """Returns the scores of a row `[R, C]` as pairs `[R, C / 2]`, -inf where a key is forbidden."""
    if FULL:
        scores = tl.load(line + key * stride)
    else:
        scores = tl.load(line + key * stride, mask=key < keys, other=-float("inf"))
    if HAS_MASK:
        if FULL:
            allowed = tl.load(mask + key * mask_stride)
        else:
            allowed = tl.load(mask + key * mask_stride, mask=key < keys, other=0)
        scores = tl.where(allowed != 0, scores, -float("inf"))
    bits = scores.to(tl.int16, bitcast=True).to(tl.int32)
    even, odd = tl.split(tl.reshape(bits, (bits.shape[0], bits.shape[1] // 2, 2)))
    return (even & 0xFFFF) | (odd << 16)


@triton.jit
def pair_of(code):
    """Returns the pair whose scores both have a code."""
    bits = tl.where(code < 0, code ^ 0x7FFF, code)
    return (bits & 0xFFFF) | (bits << 16)


@triton.jit
def count_flags(flags):
    """Counts the flags of pairs `[R, C]`, at most 32768, per group of 4 pairs."""
    # A set even half is -1 in the lower half, and one that it borrows from the upper.
    total = tl.sum(tl.sum(tl.reshape(flags, (flags.shape[0], flags.shape[1] // 4, 4)), 2), 0)
    even = (-total) & 0xFFFF
    return 2 * even - ((total + even) >> 16)


@triton.jit
def count_pairs(pairs, lower, upper, dtype: tl.constexpr):
    """Same as `search.count_reaching`, for pairs."""
    first = count_flags(flag_pairs(pairs, pair_of(lower), "geu", dtype))
    second = count_flags(flag_pairs(pairs, pair_of(upper), "geu", dtype))
    counts = tl.sum(first + (second << 16), 0)
    return counts & 0xFFFF, (counts >> 16) & 0xFFFF


@triton.jit
def flag_bytes(flags):
    """Packs the flags of each 8 neighboring keys, 4 pairs of a tile `[R, C]`, in one integer."""
    groups = tl.reshape(flags, (flags.shape[0], flags.shape[1] // 4, 4))
    place = tl.arange(0, 4)[None, None, :] * 2
    bits = tl.sum(groups & ((1 << place) | (1 << (place + 17))), 2)
    return (bits | (bits >> 16)) & 0xFF


@triton.jit
def best_bytes(pairs, low, reaching, beyond, budget, dtype: tl.constexpr):
    """Flags the best keys of a row, 8 in each integer.

    Args:
        low, reaching, beyond: what a search found.
    """
    pair = pair_of(low)
    if reaching > budget:
        above = flag_pairs(pairs, pair, "gtu", dtype)
        tied = flag_pairs(pairs, pair, "eq", dtype)
        if low == infinity(dtype):  # only NaN is above
            beyond = tl.sum(count_flags(above), 0)
            if beyond >= budget:
                tied, above, beyond = above, above * 0, beyond * 0
        tied = flag_bytes(tied)
        cutoff = last_of(tied, budget - beyond)
        kept = flag_bytes(above) | (tied & bytes_upto(cutoff, tied.shape[0], tied.shape[1]))
    else:
        kept = flag_bytes(flag_pairs(pairs, pair, "geu", dtype))
    return kept


@triton.jit
def last_of(flags, number):
    """Returns the key of the `number`-th flag of a tile. There must be as many, and at least one.

    First finds its line, and then searches only there: to number the flags of all lines, each
    thread would have to add up the counts of each warp and line.
    """
    R: tl.constexpr = flags.shape[0]  # noqa: N806
    G: tl.constexpr = flags.shape[1]  # noqa: N806
    lines = tl.sum(bit_count(flags), 1)
    earlier = tl.cumsum(lines, 0) < number
    line = tl.sum(earlier.to(tl.int32), 0)
    number -= tl.sum(tl.where(earlier, lines, 0), 0)
    flags = tl.sum(tl.where(tl.arange(0, R)[:, None] == line, flags, 0), 0)
    count = bit_count(flags)
    before = tl.cumsum(count, 0) - count
    here = (before < number) & (before + count >= number)
    found = (tl.arange(0, G) << 12) | ((number - before) << 8) | flags
    found = tl.sum(tl.where(here, found, 0), 0)
    bits, left = found & 0xFF, (found >> 8) & 0xF
    while left > 1:
        bits, left = bits & (bits - 1), left - 1
    return (line * G + (found >> 12)) * 8 + bit_count((bits & -bits) - 1)


@triton.jit
def bytes_upto(key, R: tl.constexpr, G: tl.constexpr):
    """Flags all keys up to one, 8 in each integer."""
    first = (tl.arange(0, R)[:, None] * G + tl.arange(0, G)[None, :]) * 8
    return (1 << tl.minimum(tl.maximum(key + 1 - first, 0), 8)) - 1


@triton.jit
def write_bytes(
    out, flags, groups, count, width, C: tl.constexpr, OUT: tl.constexpr, FULL: tl.constexpr
):
    """Writes a row of `groups` times 8 keys, like `rows.write_row`."""
    flags = tl.reshape(flags, (flags.numel,))
    if OUT == "mask":
        # Copies of 4 bits, 7 places apart: each bit comes first in another byte.
        first = (flags & 0xF) * 0x204081 & 0x01010101
        second = (flags >> 4) * 0x204081 & 0x01010101
        group = tl.arange(0, flags.numel)[:, None]
        place = out.to(tl.pointer_type(tl.int32)) + group * 2 + tl.arange(0, 2)[None, :]
        if FULL:
            tl.store(place, tl.join(first, second))
        else:
            tl.store(place, tl.join(first, second), mask=group < groups)
    else:
        write_packed(out, flags, 0, 0, width, 8)
        write_tail(out, count, width, C)
