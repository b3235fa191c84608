"""Rows that are too long for registers: most programs work on one split of a row.

A sample of a row gives two codes, `low` and `high`, that its threshold is likely to lie between
(`sampling`). One pass over the row counts the scores at, above and between the two, and gathers the
keys in between: a few thousand, which fit in registers. `settle` finds the threshold among them.
Another pass writes the result. So a row is read twice, and programs of a launch never wait for each
other.

Few rows leave most of a GPU idle. There, programs that gather start while a sample is searched, and
load their scores meanwhile (programmatic dependent launch). Programs that settle or write start
early too if there is a multiprocessor for each split. Otherwise they would crowd on those that have
room at that time.

The launches pass data about a row to each other in one line of integers, its *notes*: `low`;
`high`; how many keys are gathered; then three words, each stored for all splits in turn; then the
gathered keys. The words are

0. in the lower 16 bits, how many scores reach `low`; in the upper 16, how many are above it;
1. the same for `high`;
2. the bits of the smallest score that reaches `low`; once the row is settled, how many keys before
   the split are kept.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dmask.kernels.triton.codes import infinity, score_of
from dmask.kernels.triton.instructions import without_nan
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.rows import (
    load_scores,
    tile_keys,
    write_indices,
)
from dmask.kernels.triton.search import count_reaching

HEAD = tl.constexpr(3)
"""How many integers of a row's notes come before the words of its splits."""
WORDS = tl.constexpr(3)


@triton.jit
def start_next(STARTS: tl.constexpr):
    """With `STARTS`, allows the programs of the next launch to start before this launch ends."""
    if STARTS:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def wait_for_last(WAITS: tl.constexpr):
    """With `WAITS`, waits for the end of the launch before this one. Notes are read after that."""
    if WAITS:
        tl.extra.cuda.gdc_wait()


@triton.jit
def notes_of(notes, row, splits, room):
    """Returns where the notes of a row start."""
    return notes + row.to(tl.int64) * (HEAD + WORDS * splits + room)


@triton.jit(do_not_specialize=["units", "splits", "mask_b", "mask_h", "mask_q", "room", "lowest"])
def gather_splits(
    bias,
    mask,
    notes,
    heads,
    queries,
    units,
    splits,
    bias_b,
    bias_h,
    bias_q,
    bias_k,
    mask_b,
    mask_h,
    mask_q,
    mask_k,
    room,
    lowest,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    WAITS: tl.constexpr,
    STARTS: tl.constexpr,
):
    """Writes the words of a split, and gathers its keys between `low` and `high`. The order of the
    splits is arbitrary and does not affect the result.
    """
    keys = multiple(units, VEC)
    dtype: tl.constexpr = bias.dtype.element_ty
    row, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
    key = split * (R * C) + tile_keys(R, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    scores = without_nan(scores)
    start_next(STARTS)
    note = notes_of(notes, row, splits, room)
    wait_for_last(WAITS)
    low, high = tl.load(note), tl.load(note + 1)
    at_low, above_low = count_reaching(scores, low, low + 1, dtype)
    at_high, above_high = count_reaching(scores, high, high + 1, dtype)
    smallest = score_of(infinity(dtype) + row * 0, dtype)
    if low <= lowest:  # the row may keep all its eligible keys
        reaching = tl.where(scores >= score_of(low, dtype), scores, float("inf"))
        smallest = tl.min(tl.min(reaching, 0), 0)
    words = note + HEAD + split
    tl.store(words, at_low | (above_low << 16))
    tl.store(words + splits, at_high | (above_high << 16))
    tl.store(words + 2 * splits, smallest.to(tl.int32, bitcast=True))
    if above_low > at_high:
        first = tl.atomic_add(note + 2, above_low - at_high)
        between = (scores >= score_of(low + 1, dtype)) & (scores < score_of(high, dtype))
        gathered = note + HEAD + WORDS * splits
        write_indices(gathered, between, split * (R * C), first, room, R, C, 32)
