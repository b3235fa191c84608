"""Bounds of rows that are too long for registers and see, or have to choose from, a part of their
keys: one program per row passes over that part.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton.bounds import narrowed, position
from dmask.kernels.triton.codes import infinity, score_of
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import lowest_code, multiple, restricted_rows, row_offset
from dmask.kernels.triton.passes import passing_bounds
from dmask.kernels.triton.rows import load_scores

TILE = 2**13
"""How many keys a program looks at together."""
WARPS = 8
MIN_ROWS = 65
"""The fewest rows. One program passes over a row of 524288 keys in 1.3 ms; the reference takes half
of that for two such rows.
"""


@triton.jit
def count_eligible(
    line,
    bias_k,
    allowed,
    mask_k,
    begin,
    end,
    lowest,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Counts the keys from `begin` to `end` that may be kept, in blocks."""
    count = end * 0
    for start in range(begin, end, BLOCK):
        key = start + tl.arange(0, BLOCK)
        scores = load_scores(line, bias_k, key, end, allowed, mask_k, HAS_MASK, False)
        count += tl.sum(((scores < lowest) == 0).to(tl.int32), 0)
    return count


@triton.jit(
    do_not_specialize=[
        "units",
        "mask_b",
        "mask_h",
        "mask_q",
        "query_len",
        "window",
        "lowest",
        "sinks",
        "local",
    ]
)
def select_visible(
    bias,
    mask,
    starts,
    ends,
    thresholds,
    cutoffs,
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
    window,
    lowest,
    sinks,
    local,
    HAS_MASK: tl.constexpr,
    LIMITS: tl.constexpr,
    CAUSAL: tl.constexpr,
    ALWAYS: tl.constexpr,
    LOCAL: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
):
    """Writes the threshold and the cutoff of each row.

    The keys that a row always keeps are its sinks, and with `LOCAL` (with `CAUSAL` or ranges only)
    the last that it sees. So it chooses from the keys in between.
    """
    dtype: tl.constexpr = bias.dtype.element_ty
    keys = multiple(units, VEC)
    row = tl.program_id(0)
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
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
    begin, stop = tl.minimum(start + sinks, end), end
    if LOCAL:
        stop = tl.maximum(tl.minimum(own + 1 - local, end), begin)
    budget = window + own * 0
    if ALWAYS:
        least = score_of(lowest, dtype)
        budget -= count_eligible(line, bias_k, allowed, mask_k, start, begin, least, HAS_MASK, C)
        budget -= count_eligible(line, bias_k, allowed, mask_k, stop, end, least, HAS_MASK, C)
    threshold, cutoff = score_of(infinity(dtype) + row * 0, dtype), row * 0 - 1
    if (budget > 0) & (begin < stop):
        line += begin.to(tl.int64) * bias_k
        allowed += begin.to(tl.int64) * mask_k
        threshold, last = passing_bounds(
            line, bias_k, allowed, mask_k, stop - begin, budget, lowest, dtype, HAS_MASK, R, C
        )
        cutoff = tl.where(last < 0, last, last + begin)
    tl.store(thresholds + row, narrowed(threshold, dtype))
    tl.store(cutoffs + row, cutoff)


def supports(inputs: SelectionInputs, rows: int) -> bool:
    """True if there are rows for all multiprocessors, and the keys that a row does not always keep
    are next to each other.
    """
    positions = inputs.positions
    ends_at_own = positions.is_causal or inputs.ranges is not None
    return rows >= MIN_ROWS and (ends_at_own or not positions.local)


def bounds(
    inputs: SelectionInputs,
    shape: tuple[int, int, int],
    window_size: int,
    threshold: Tensor,
    cutoff: Tensor,
) -> None:
    """Writes the threshold and the cutoff of each row."""
    tensors, restricted = restricted_rows(inputs, shape, cutoff)
    rows, positions, keys = restricted.rows, inputs.positions, inputs.positions.key_len
    columns = min(TILE, WARPS * 32 * (16 // rows.dtype.itemsize))
    sizes, strides, constants = rows.numbers()
    launch(
        "select",
        select_visible,
        (rows.total,),
        rows.shape,
        *tensors,
        threshold,
        cutoff,
        *sizes,
        *strides,
        *restricted.limits.strides,
        positions.query_len,
        min(window_size, keys),
        lowest_code(inputs.floor, rows.dtype),
        min(positions.sinks, keys),
        min(positions.local, keys),
        **constants,
        **restricted.restrictions(),
        R=TILE // columns,
        C=columns,
        num_warps=WARPS,
    )
