"""Turns the bounds of a selection into masks, counts per block, and indices."""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.bounds import always_kept, position
from dmask.kernels.triton.codes import code_with_nan, score_of
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.rows import as_float, load_scores


@triton.jit
def bound_of(threshold, cutoff):
    """Returns the code that a row's scores must reach; none does if no key is kept by its score."""
    none = (cutoff < 0) & (threshold == float("inf"))
    return tl.where(none, 0x7FFFFFFF, code_with_nan(as_float(threshold)))


@triton.jit
def keeps(codes, bound, cutoff, key):
    """Flags the keys that a row keeps by score, given the codes of its scores (`code_with_nan`)."""
    return codes > tl.where(key <= cutoff, bound - 1, bound)


@triton.jit(do_not_specialize=["queries", "units", "query_len", "lowest", "sinks", "local"])
def write_mask(
    bias,
    mask,
    starts,
    ends,
    thresholds,
    cutoffs,
    out,
    heads,
    queries,
    units,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    start_b,
    start_q,
    end_b,
    end_q,
    query_len,
    lowest,
    sinks,
    local,
    HAS_MASK: tl.constexpr,
    LIMITS: tl.constexpr,
    CAUSAL: tl.constexpr,
    ALWAYS: tl.constexpr,
    LOCAL: tl.constexpr,
    PER_KEY: tl.constexpr,
    VEC: tl.constexpr,
    Q: tl.constexpr,
    K: tl.constexpr,
):
    """Writes the mask of `Q` queries and `K` keys per program. A row has `units * VEC` keys."""
    keys = multiple(units, VEC)
    wide, high = tl.cdiv(keys, K), tl.cdiv(queries, Q)
    program = tl.program_id(0).to(tl.int64)
    begin = (program % wide * K).to(tl.int32)
    first = (program // wide % high * Q).to(tl.int32)
    group = program // (wide * high)
    head, batch = group % heads, group // heads
    least = code_with_nan(score_of(lowest, bias.dtype.element_ty))
    key = begin + tl.arange(0, K)
    bias += batch * bias_b + head * bias_h + key.to(tl.int64) * bias_k
    mask += batch * mask_b + head * mask_h + key.to(tl.int64) * mask_k
    codes = tl.zeros((K,), tl.int32)
    if PER_KEY:  # all queries have the same scores
        codes = code_with_nan(as_float(tl.load(bias, mask=key < keys, other=0.0)))
    for query in range(first, tl.minimum(first + Q, queries)):
        row = group * queries + query
        own, start, end = position(
            query,
            batch,
            keys,
            query_len,
            starts,
            ends,
            start_b,
            start_q,
            end_b,
            end_q,
            CAUSAL,
            LIMITS,
        )
        kept = key < 0
        if (begin < end) & (start < begin + K):
            visible = (key >= start) & (key < end)
            if PER_KEY == 0:
                where = bias + (row - group * queries) * bias_q
                codes = code_with_nan(as_float(tl.load(where, mask=visible, other=0.0)))
            cutoff = tl.load(cutoffs + row)
            kept = keeps(codes, bound_of(tl.load(thresholds + row), cutoff), cutoff, key)
            if ALWAYS:
                always = always_kept(key, own, start + sinks, local, LOCAL)
                kept = kept | (always & (codes >= least))
            kept = kept & visible
            if HAS_MASK:
                where = mask + (row - group * queries) * mask_q
                kept = kept & (tl.load(where, mask=visible, other=0) != 0)
        tl.store(out + row * keys + key, kept, mask=key < keys)


@triton.jit(do_not_specialize=["queries", "keys", "query_len", "lowest", "sinks", "local"])
def count_blocks(
    bias,
    mask,
    starts,
    ends,
    thresholds,
    cutoffs,
    counts,
    heads,
    queries,
    keys,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    start_b,
    start_q,
    end_b,
    end_q,
    query_len,
    lowest,
    sinks,
    local,
    query_block,
    key_block,
    HAS_MASK: tl.constexpr,
    LIMITS: tl.constexpr,
    CAUSAL: tl.constexpr,
    ALWAYS: tl.constexpr,
    LOCAL: tl.constexpr,
    PER_KEY: tl.constexpr,
    WIDE: tl.constexpr,
    Q: tl.constexpr,
    K: tl.constexpr,
):
    """Writes how many keys are kept in each of `WIDE` neighboring blocks.

    If `WIDE > 1`, the blocks must span exactly `K` keys. A query's bounds are then read once for
    all of them.
    """
    least = code_with_nan(score_of(lowest, bias.dtype.element_ty))
    blocks, high = tl.cdiv(keys, key_block), tl.cdiv(queries, query_block)
    wide = tl.cdiv(blocks, WIDE)
    program = tl.program_id(0).to(tl.int64)
    key_tile, query_tile = program % wide, program // wide % high
    row = program // (wide * high)
    head, batch = row % heads, row // heads
    first = (query_tile * query_block).to(tl.int32)
    stop = tl.minimum(first + query_block, queries)
    block = (key_tile * WIDE).to(tl.int32)
    begin = block * key_block
    end = tl.minimum(begin + WIDE * key_block, keys)
    if LIMITS != "ranges":  # the last query sees the most
        _, _, seen = position(
            stop - 1,
            batch,
            keys,
            query_len,
            starts,
            ends,
            start_b,
            start_q,
            end_b,
            end_q,
            CAUSAL,
            LIMITS,
        )
        end = tl.minimum(end, seen)
    bias += batch * bias_b + head * bias_h
    mask += batch * mask_b + head * mask_h
    total = tl.zeros((Q, K), tl.int32)
    for k in range(begin, end, K):
        key = k + tl.arange(0, K)[None, :]
        line = bias + key.to(tl.int64) * bias_k
        codes = tl.zeros((1, K), tl.int32)
        if PER_KEY:  # all queries have the same scores
            codes = code_with_nan(as_float(tl.load(line, mask=key < end, other=0.0)))
        for q in range(first, stop, Q):
            query = q + tl.arange(0, Q)[:, None]
            inside = query < stop
            here = row * queries + query
            cutoff = tl.load(cutoffs + here, mask=inside, other=-1)
            threshold = tl.load(thresholds + here, mask=inside, other=float("inf"))
            query = tl.minimum(query, stop - 1)  # whose limits are read
            own, start, limit = position(
                query,
                batch,
                keys,
                query_len,
                starts,
                ends,
                start_b,
                start_q,
                end_b,
                end_q,
                CAUSAL,
                LIMITS,
            )
            visible = inside & (key >= start) & (key < tl.minimum(limit, end))
            here_codes = codes
            if PER_KEY == 0:
                scores = tl.load(line + query.to(tl.int64) * bias_q, mask=visible, other=0.0)
                here_codes = code_with_nan(as_float(scores))
            kept = keeps(here_codes, bound_of(threshold, cutoff), cutoff, key)
            if ALWAYS:
                always = always_kept(key, own, start + sinks, local, LOCAL)
                kept = kept | (always & (here_codes >= least))
            kept = kept & visible
            if HAS_MASK:
                where = mask + query.to(tl.int64) * mask_q + key.to(tl.int64) * mask_k
                kept = kept & (tl.load(where, mask=visible, other=0) != 0)
            total += kept.to(tl.int32)
    counted = tl.sum(tl.reshape(tl.sum(total, 0), (WIDE, K // WIDE)), 1)
    block += tl.arange(0, WIDE)
    tl.store(counts + (program // wide) * blocks + block, counted, mask=block < blocks)


@triton.jit(do_not_specialize=["queries", "keys", "query_len", "lowest", "sinks", "local", "width"])
def write_kept(
    bias,
    mask,
    starts,
    ends,
    thresholds,
    cutoffs,
    out,
    heads,
    queries,
    keys,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    start_b,
    start_q,
    end_b,
    end_q,
    query_len,
    lowest,
    sinks,
    local,
    width,
    HAS_MASK: tl.constexpr,
    LIMITS: tl.constexpr,
    CAUSAL: tl.constexpr,
    ALWAYS: tl.constexpr,
    LOCAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the kept keys of one row, ascending, then -1."""
    least = code_with_nan(score_of(lowest, bias.dtype.element_ty))
    row = tl.program_id(0)
    bias += row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    mask += row_offset(row, heads, queries, mask_b, mask_h, mask_q)
    out += row.to(tl.int64) * width
    cutoff = tl.load(cutoffs + row)
    bound = bound_of(tl.load(thresholds + row), cutoff)
    own, start, end = position(
        row % queries,
        row // (queries * heads),
        keys,
        query_len,
        starts,
        ends,
        start_b,
        start_q,
        end_b,
        end_q,
        CAUSAL,
        LIMITS,
    )
    count = row * 0
    for begin in range(start // BLOCK * BLOCK, end, BLOCK):
        key = begin + tl.arange(0, BLOCK)
        codes = code_with_nan(load_scores(bias, bias_k, key, end, mask, mask_k, HAS_MASK, False))
        kept = keeps(codes, bound, cutoff, key)
        if ALWAYS:
            always = always_kept(key, own, start + sinks, local, LOCAL)
            kept = kept | (always & (codes >= least))
        kept = (kept & (key >= start) & (key < end)).to(tl.int32)
        place = count + tl.cumsum(kept, 0) - 1
        tl.store(out + place, key, mask=(kept != 0) & (place < width))
        count += tl.sum(kept, 0)
    for begin in range(count // BLOCK * BLOCK, width, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        tl.store(out + place, place * 0 - 1, mask=(place >= count) & (place < width))
