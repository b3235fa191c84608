"""Causal selections of a bias per key: every query sees a prefix of one row.

While a window is full, thresholds never fall from one query to the next, and at most one key joins
per query. So the thresholds of every `STEP`-th query are found as those of any row (`bounds`), and
one program finds those of the queries in between: they keep what the first of them keeps, or keys
that join.

With local keys, a row chooses from the prefix before these. As a key leaves the local ones, or
another one that may not be kept joins them, there is room for one more key or for one less. So
thresholds rise and fall, but not below that of the first query with `STEP` more keys.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton.bounds import narrowed, position
from dmask.kernels.triton.codes import score_of
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import broadcast_rows, lowest_code, power_of_2
from dmask.kernels.triton.ranks import gather_ranks, key_of, next_rank, rank_of, rank_of_bounds
from dmask.kernels.triton.rows import load_scores
from dmask.kernels.triton.visible import count_eligible

STEP = 64
"""How many queries a program takes."""
MAX_WINDOW = 2**13
"""The widest window whose keys registers hold."""
MAX_MEMORY = 2**31
"""How many bytes of ranks there may be. Selections that need more search each row."""


@triton.jit
def prefix_end(own, end, local, LOCAL: tl.constexpr):
    """Returns where the keys end that a row chooses from, given those that it sees."""
    stop = end
    if LOCAL:
        stop = tl.maximum(tl.minimum(own + 1 - local, end), 0)
    return stop


@triton.jit(
    do_not_specialize=[
        "heads",
        "queries",
        "keys",
        "query_len",
        "window",
        "lowest",
        "sinks",
        "local",
    ]
)
def follow_prefixes(
    bias,
    mask,
    lengths,
    starts,
    start_cutoffs,
    least_starts,
    least_cutoffs,
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
    lowest,
    sinks,
    local,
    HAS_MASK: tl.constexpr,
    LIMITS: tl.constexpr,
    LOCAL: tl.constexpr,
    STEP: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the bounds of `STEP` queries, given those of the first and the least of all."""
    dtype: tl.constexpr = bias.dtype.element_ty
    tiles = (queries + STEP - 1) // STEP
    program = tl.program_id(0)
    tile, row = program % tiles, program // tiles
    head, batch = row % heads, row // heads
    line = bias + batch.to(tl.int64) * bias_b + head.to(tl.int64) * bias_h
    allowed = mask + batch.to(tl.int64) * mask_b + head.to(tl.int64) * mask_h
    slots += program.to(tl.int64) * SLOTS
    lowest_score = score_of(lowest, dtype)
    sink_count = tl.minimum(sinks, keys)
    budget = window - count_eligible(
        line, bias_k, allowed, mask_k, sink_count * 0, sink_count, lowest_score, HAS_MASK, BLOCK
    )
    begin = tile * STEP
    count_queries = tl.minimum(queries - begin, STEP)
    own, _, ended = position(
        begin, batch, keys, query_len, lengths, lengths, 0, 0, length_b, 0, True, LIMITS
    )
    seen = prefix_end(own, ended, local, LOCAL)
    final = begin + count_queries - 1
    own, _, end = position(
        final, batch, keys, query_len, lengths, lengths, 0, 0, length_b, 0, True, LIMITS
    )
    end = prefix_end(own, end, local, LOCAL)
    if LOCAL:
        budget -= count_eligible(
            line,
            bias_k,
            allowed,
            mask_k,
            tl.maximum(seen, sinks),
            ended,
            lowest_score,
            HAS_MASK,
            BLOCK,
        )
    none = (seen.to(tl.int64) * 0) + 0x7FFFFFFFFFFFFFFF
    last = rank_of_bounds(starts, start_cutoffs, program, none)
    least = rank_of_bounds(least_starts, least_cutoffs, program, none)
    full = gather_ranks(
        slots,
        line,
        bias_k,
        allowed,
        mask_k,
        0 * seen,
        sinks,
        seen,
        least,
        lowest_score,
        HAS_MASK,
        BLOCK,
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
        lowest_score,
        HAS_MASK,
        BLOCK,
    )
    tl.debug_barrier()
    slot = tl.arange(0, SLOTS)
    ranks = tl.load(slots + slot, mask=slot < total, other=-0x7FFFFFFFFFFFFFFF)
    joined = key_of(ranks)
    out = row.to(tl.int64) * queries + begin
    some = full  # how many keys there are to choose from, if they are fewer than the budget
    if LOCAL:
        full = tl.sum(((ranks >= last) & (joined < seen)).to(tl.int32), 0)
    for i in range(count_queries):
        own, _, now = position(
            begin + i, batch, keys, query_len, lengths, lengths, 0, 0, length_b, 0, True, LIMITS
        )
        stop = prefix_end(own, now, local, LOCAL)
        if LOCAL:  # noqa: SIM102 (the compiler knows LOCAL, and not the rest)
            if now > ended:
                ended = now
                key = now - 1
                score = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
                budget -= ((key >= sinks) & ((score < lowest_score) == 0)).to(tl.int32)
        if stop > seen:
            seen = stop
            key = stop - 1
            score = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
            if (key >= sinks) & ((score < lowest_score) == 0):
                rank = rank_of(score, key)
                if LOCAL:
                    budget += 1
                    some += 1
                    full += (rank >= last).to(tl.int32)
                elif budget > 0:
                    if full < budget:
                        full += 1
                        last = tl.minimum(last, rank)
                    elif rank > last:
                        last = tl.min(tl.where((ranks > last) & (joined < stop), ranks, none), 0)
        if LOCAL:
            wanted = tl.minimum(budget, some)
            last = next_rank(last, full, wanted, ranks, joined, seen, none)
            full = wanted
        bits = (last >> 32).to(tl.int32)
        bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        threshold = tl.where(last == none, float("inf"), bits.to(tl.float32, bitcast=True))
        tl.store(thresholds + out + i, narrowed(threshold, dtype))
        tl.store(cutoffs + out + i, tl.where(last == none, -1, key_of(last)))


def supports(inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int) -> bool:
    """True for thousands of queries over one row per head."""
    bias, allowed, _, positions, _, _ = inputs
    per_key = bias.shape[2] == 1 and (allowed is None or allowed.shape[2] == 1)
    many = positions.is_causal and shape[2] > 2 * STEP
    return (
        per_key
        and many
        and window_size <= MAX_WINDOW
        and _memory(inputs, shape, window_size) <= MAX_MEMORY
    )


def _slots(positions: Positions, window_size: int) -> int:
    """Returns room for the ranks of one program: a power of two."""
    room = 2 * STEP if positions.local else STEP
    return power_of_2(min(window_size, positions.key_len) + room)


def _memory(inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int) -> int:
    """Returns how many bytes the ranks of all programs take."""
    programs = shape[0] * shape[1] * -(-shape[2] // STEP)
    return 8 * programs * _slots(inputs.positions, window_size)


def follow(
    inputs: SelectionInputs,
    shape: tuple[int, int, int],
    window_size: int,
    starts: tuple[Tensor, Tensor],
    least: tuple[Tensor, Tensor],
    threshold: Tensor,
    cutoff: Tensor,
) -> None:
    """Writes the bounds of all queries, given those of every `STEP`-th, for the window and for
    `STEP` more keys. With no local keys, both are those for the window.
    """
    bias, allowed, lengths, positions, floor, _ = inputs
    rows = broadcast_rows(bias, allowed, (*shape[:2], 1, positions.key_len))
    window = min(window_size, positions.key_len)
    slots = _slots(positions, window_size)
    programs = starts[1].numel()
    bias_b, bias_h, _, bias_k = rows.bias_strides
    mask_b, mask_h, _, mask_k = rows.mask_strides
    launch(
        "select",
        follow_prefixes,
        (programs,),
        (*shape, positions.key_len),
        rows.bias,
        rows.mask,
        cutoff if lengths is None else lengths,
        *starts,
        *least,
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
        lowest_code(floor, bias.dtype),
        positions.sinks,
        min(positions.local, positions.key_len),
        HAS_MASK=rows.has_mask,
        LIMITS="none" if lengths is None else "lengths",
        LOCAL=positions.local > 0,
        STEP=STEP,
        SLOTS=slots,
        BLOCK=min(2048, max(16, power_of_2(positions.key_len))),
        num_warps=4,
    )
