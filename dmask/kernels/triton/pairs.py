"""Rows of 16-bit scores, two in each register.

A Hopper multiprocessor compares both scores of a register with one instruction. The result, a
*flag pair*, has all bits of a half set if its score passes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import code_of, infinity, score_of
from dmask.kernels.triton.instructions import bit_count, flag_pairs, without_nan
from dmask.kernels.triton.rows import as_float, write_packed, write_tail


@triton.jit
def paired(scores):
    """Returns the scores of a tile `[R, C]` as pairs `[R, C / 2]`."""
    bits = scores.to(tl.int16, bitcast=True).to(tl.int32)
    even, odd = tl.split(tl.reshape(bits, (bits.shape[0], bits.shape[1] // 2, 2)))
    return (even & 0xFFFF) | (odd << 16)


@triton.jit
def unpaired(pairs, dtype: tl.constexpr):
    """Returns the scores of pairs as float32, in another order."""
    bits = tl.join(pairs, pairs >> 16).to(tl.int16)
    scores = as_float(bits.to(dtype, bitcast=True))
    return tl.reshape(scores, (pairs.shape[0], pairs.shape[1] * 2))


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
    """Same as `search.count_scores`, for pairs."""
    first = count_flags(flag_pairs(pairs, pair_of(lower), "geu", dtype))
    second = count_flags(flag_pairs(pairs, pair_of(upper), "geu", dtype))
    return tl.sum(first + (second << 16), 0)


@triton.jit
def flag_bytes(flags):
    """Packs the flags of each 8 neighboring keys, 4 pairs of a tile `[R, C]`, in one integer."""
    groups = tl.reshape(flags, (flags.shape[0], flags.shape[1] // 4, 4))
    place = tl.arange(0, 4)[None, None, :] * 2
    bits = tl.sum(groups & ((1 << place) | (1 << (place + 17))), 2)
    return (bits | (bits >> 16)) & 0xFF


@triton.jit
def ranked(pairs, low, beyond, budget, dtype: tl.constexpr):
    """Ranks the scores of a row against its last score to be kept.

    Args:
        low: the code of that score. `beyond` scores are above it.

    Returns:
        The flag bytes of the scores above it, and of those that tie with it; how many are above;
        and the score. NaN ranks before infinity, whose code it shares.
    """
    pair, score = pair_of(low), score_of(low, dtype) + 0.0
    above, tied = flag_pairs(pairs, pair, "gtu", dtype), flag_pairs(pairs, pair, "eq", dtype)
    if low == infinity(dtype):
        beyond = tl.sum(count_flags(above), 0)  # only NaN is above
        if beyond >= budget:
            tied, above, beyond = above, above * 0, beyond * 0
            score = tl.where(beyond == 0, float("nan"), score)
    return flag_bytes(above), flag_bytes(tied), beyond, score


@triton.jit
def best_bytes(pairs, low, reaching, beyond, budget, dtype: tl.constexpr):
    """Returns the flag bytes of the best keys of a row.

    Args:
        low, reaching, beyond: what a search found.
    """
    if reaching > budget:
        kept, tied, beyond, _ = ranked(pairs, low, beyond, budget, dtype)
        kept |= tied & bytes_upto(last_of(tied, budget - beyond), tied.shape[0], tied.shape[1])
    else:
        kept = flag_bytes(flag_pairs(pairs, pair_of(low), "geu", dtype))
    return kept


@triton.jit
def pair_bounds(pairs, low, reaching, beyond, budget, dtype: tl.constexpr):
    """Returns the threshold and the cutoff of a row. The arguments are those of `best_bytes`."""
    kept = tl.minimum(reaching, budget)
    if reaching <= budget:  # then `low` may be the code of no score
        scores = without_nan(unpaired(pairs, dtype))
        reached = tl.where(scores < score_of(low, dtype), float("inf"), scores)
        low = code_of(tl.min(tl.min(reached, 0), 0), dtype)
        beyond = tl.sum(count_flags(flag_pairs(pairs, pair_of(low), "gtu", dtype)), 0)
    threshold, cutoff = score_of(infinity(dtype) + low * 0, dtype), low * 0 - 1
    if kept > 0:
        _, tied, beyond, threshold = ranked(pairs, low, beyond, kept, dtype)
        cutoff = last_of(tied, kept - beyond)
    return threshold, cutoff


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
