"""Causal selections of a bias per key: every query sees a prefix of one row.

While a window is full, thresholds never fall from one query to the next, and at most one key joins
per query. So the thresholds of every `STEP`-th query are found as those of any row (`bounds`), and
one program finds those of the queries in between: they keep what the first of them keeps, or keys
that join.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton.bounds import narrowed, position
from dmask.kernels.triton.layout import broadcast_rows, floor_code, launch
from dmask.kernels.triton.rows import load_scores
from dmask.kernels.triton.search import score_of
from dmask.kernels.triton.visible import count_eligible

STEP = 64
"""How many queries a program takes."""
MAX_WINDOW = 2**13
"""The widest window whose keys registers hold."""


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
    floor,
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
        joins = (key >= begin) & (key < stop) & ((scores < floor) == 0) & (rank >= least)
        joins = joins.to(tl.int32)
        tl.store(slots + first + tl.cumsum(joins, 0) - 1, rank, mask=joins != 0)
        first += tl.sum(joins, 0)
    return first


@triton.jit(do_not_specialize=["heads", "queries", "keys", "query_len", "window", "floor", "sinks"])
def follow_prefixes(
    bias,
    mask,
    lengths,
    starts,
    start_cutoffs,
    slots,
    thresholds,
    cutoffs,
    heads,
    queries,
    keys,
    bias_b,
    bias_h,
    bias_k,
    mask_b,
    mask_h,
    mask_k,
    length_b,
    query_len,
    window,
    floor,
    sinks,
    HAS_MASK: tl.constexpr,
    LENGTHS: tl.constexpr,
    STEP: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the bounds of `STEP` queries, given those of the first."""
    dtype: tl.constexpr = bias.dtype.element_ty
    tiles = (queries + STEP - 1) // STEP
    program = tl.program_id(0)
    tile, row = program % tiles, program // tiles
    head, batch = row % heads, row // heads
    line = bias + batch.to(tl.int64) * bias_b + head.to(tl.int64) * bias_h
    allowed = mask + batch.to(tl.int64) * mask_b + head.to(tl.int64) * mask_h
    slots += program.to(tl.int64) * SLOTS
    lowest = score_of(floor, dtype)
    sink_count = tl.minimum(sinks, keys)
    budget = window - count_eligible(
        line, bias_k, allowed, mask_k, sink_count * 0, sink_count, lowest, HAS_MASK, BLOCK
    )
    begin = tile * STEP
    count_queries = tl.minimum(queries - begin, STEP)
    _, seen = position(begin, batch, keys, query_len, lengths, length_b, True, LENGTHS)
    _, end = position(
        begin + count_queries - 1, batch, keys, query_len, lengths, length_b, True, LENGTHS
    )
    first_cutoff = tl.load(start_cutoffs + program)
    none = (seen.to(tl.int64) * 0) + 0x7FFFFFFFFFFFFFFF
    last = none
    if first_cutoff >= 0:
        start = tl.load(starts + program)
        if dtype == tl.bfloat16:
            start = (start.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(
                tl.float32, bitcast=True
            )
        last = rank_of(start.to(tl.float32), first_cutoff)
    least = tl.where(first_cutoff >= 0, last, none)
    full = gather_ranks(
        slots, line, bias_k, allowed, mask_k, 0 * seen, sinks, seen, least, lowest, HAS_MASK, BLOCK
    )
    total = gather_ranks(
        slots,
        line,
        bias_k,
        allowed,
        mask_k,
        full,
        tl.maximum(seen, sinks),
        end,
        -none,
        lowest,
        HAS_MASK,
        BLOCK,
    )
    tl.debug_barrier()
    slot = tl.arange(0, SLOTS)
    ranks = tl.load(slots + slot, mask=slot < total, other=-0x7FFFFFFFFFFFFFFF)
    joined = key_of(ranks)
    out = row.to(tl.int64) * queries + begin
    for i in range(count_queries):
        _, now = position(begin + i, batch, keys, query_len, lengths, length_b, True, LENGTHS)
        if now > seen:
            seen = now
            key = now - 1
            score = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
            if (key >= sinks) & ((score < lowest) == 0) & (budget > 0):
                rank = rank_of(score, key)
                if full < budget:
                    full += 1
                    last = tl.minimum(last, rank)
                elif rank > last:
                    last = tl.min(tl.where((ranks > last) & (joined < now), ranks, none), 0)
        bits = (last >> 32).to(tl.int32)
        bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        threshold = tl.where(last == none, float("inf"), bits.to(tl.float32, bitcast=True))
        tl.store(thresholds + out + i, narrowed(threshold, dtype))
        tl.store(cutoffs + out + i, tl.where(last == none, -1, key_of(last)))


def supports(inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int) -> bool:
    """True for thousands of queries over one row per head."""
    bias, allowed, _, positions, _ = inputs
    per_key = bias.shape[2] == 1 and (allowed is None or allowed.shape[2] == 1)
    causal = positions.is_causal and not positions.local
    return per_key and causal and shape[2] > 2 * STEP and window_size <= MAX_WINDOW


def follow(
    inputs: SelectionInputs,
    shape: tuple[int, int, int],
    window_size: int,
    starts: tuple[Tensor, Tensor],
    threshold: Tensor,
    cutoff: Tensor,
) -> None:
    """Writes the bounds of all queries, given those of every `STEP`-th."""
    bias, allowed, lengths, positions, floor = inputs
    rows = broadcast_rows(bias, allowed, (*shape[:2], 1, positions.key_len))
    window = min(window_size, positions.key_len)
    slots = 1 << (window + STEP - 1).bit_length()
    programs = starts[1].numel()
    bias_b, bias_h, _, bias_k = rows.bias_strides
    mask_b, mask_h, _, mask_k = rows.mask_strides
    launch(
        "select",
        follow_prefixes,
        (programs,),
        (*shape, positions.key_len),
        bias,
        rows.mask,
        cutoff if lengths is None else lengths,
        *starts,
        torch.empty(programs * slots, dtype=torch.int64, device=bias.device),
        threshold,
        cutoff,
        *shape[1:],
        positions.key_len,
        bias_b,
        bias_h,
        bias_k,
        mask_b,
        mask_h,
        mask_k,
        0 if lengths is None or lengths.shape[0] == 1 else lengths.stride(0),
        positions.query_len,
        window,
        floor_code(floor, bias.dtype),
        positions.sinks,
        HAS_MASK=rows.has_mask,
        LENGTHS=lengths is not None,
        STEP=STEP,
        SLOTS=slots,
        BLOCK=min(2048, max(16, 1 << (positions.key_len - 1).bit_length())),
        num_warps=4,
    )
