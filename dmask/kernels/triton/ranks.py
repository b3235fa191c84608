"""The keys of a row as integers that sort as keys are ranked."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.rows import as_float, load_scores


@triton.jit
def rank_of(scores, key):
    """Returns integers that sort as keys are ranked: by score, NaN on top, then by lower index."""
    bits = scores.to(tl.int32, bitcast=True)
    code = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    code = tl.where(scores == 0.0, 0, tl.where(scores == scores, code, 0x7FFFFFFF))
    return (code.to(tl.int64) << 32) | (0x7FFFFFFF - key).to(tl.int64)


@triton.jit
def key_of(rank):
    """Returns the key of a rank."""
    return 0x7FFFFFFF - (rank & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def rank_of_bounds(thresholds, cutoffs, row, none):
    """Returns the rank of the last key that bounds keep, `none` if they keep none."""
    cutoff = tl.load(cutoffs + row)
    return tl.where(cutoff >= 0, rank_of(as_float(tl.load(thresholds + row)), cutoff), none)


@triton.jit
def next_rank(last, reaching, wanted, ranks, joined, seen, none):
    """Returns the rank that `wanted` of the keys before `seen` reach, given one that `reaching` do.
    The two differ by a few.
    """
    while reaching < wanted:
        last = tl.max(tl.where((ranks < last) & (joined < seen), ranks, -none), 0)
        reaching += 1
    while reaching > wanted:
        last = tl.min(tl.where((ranks > last) & (joined < seen), ranks, none), 0)
        reaching -= 1
    return last


@triton.jit
def gather_ranks(
    slots,
    line,
    bias_k,
    allowed,
    mask_k,
    first,
    begin,
    stop,
    least,
    lowest_score,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the ranks of at least `least` among the keys from `begin` to `stop`, in order.

    Returns:
        How many there are, with the `first` that were there before.
    """
    for start in range(begin // BLOCK * BLOCK, stop, BLOCK):
        key = start + tl.arange(0, BLOCK)
        scores = load_scores(line, bias_k, key, stop, allowed, mask_k, HAS_MASK, False)
        rank = rank_of(scores, key)
        joins = (key >= begin) & (key < stop) & ((scores < lowest_score) == 0) & (rank >= least)
        joins = joins.to(tl.int32)
        tl.store(slots + first + tl.cumsum(joins, 0) - 1, rank, mask=joins != 0)
        first += tl.sum(joins, 0)
    return first
