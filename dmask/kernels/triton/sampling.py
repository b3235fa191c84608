"""Samples of long rows: two codes that the threshold of a row is likely to lie between.

Of the scores of a *group* of sampled keys, only the largest counts. If a small share `p` of a row
is kept, the largest of `n` scores is kept with probability `1 - (1 - p)^n`, and hardly ever hides
another one that is kept. So a search among the maxima says almost as much as one among all.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import triton
import triton.language as tl

from dmask.kernels.triton.codes import code_of, infinity
from dmask.kernels.triton.histogram import search_histogram
from dmask.kernels.triton.instructions import without_nan
from dmask.kernels.triton.layout import multiple, row_offset
from dmask.kernels.triton.rows import load_scores, tile_keys
from dmask.kernels.triton.search import whole_bracket
from dmask.kernels.triton.splits import notes_of, start_next

MAXIMA = 2**10, 2**12
"""How many groups to search among, at least and at most."""
SAMPLE = 2**15, 2**13
"""How many keys of a row to sample at most, if there are few rows and if there are many."""
GATHERED = 2**11, 2**12
"""How many gathered keys of a row should have room, in the same order."""
ROOM = 2**10, 2**14
"""The smallest and largest room, in keys, for the gathered keys of a row."""
DEVIATIONS = 3.5
"""One row in two thousand needs another pass, because its threshold is this far from the mean."""


class Sample(NamedTuple):
    """How to sample a row."""

    group: int
    groups: int
    more: int
    fewer: int
    slack: int
    """`more` maxima reach the lower code, `fewer` the higher one: up to `slack` more, or fewer."""
    room: int
    """For the keys in between."""


@lru_cache(maxsize=256)
def sample_of(keys: int, window: int, few: bool) -> Sample:
    """Takes the smallest sample whose gathered keys fit where they should, or the largest."""
    share, many = window / keys, 0 if few else 1
    size = min(MAXIMA[0], 1 << (keys.bit_length() - 1))
    while True:
        # At most a quarter of the maxima should be kept.
        group = 1
        while group * MAXIMA[0] < size and 2 * group * share <= 0.25:
            group *= 2
        sample = _sample(keys, share, group, size // group)
        size *= 2
        done = sample.room <= GATHERED[many]
        if done or size > min(SAMPLE[many], keys) or size > MAXIMA[1] * group:
            return sample


def _sample(keys: int, share: float, group: int, groups: int) -> Sample:
    kept = 1 - (1 - share) ** group
    margin = DEVIATIONS * math.sqrt(groups * kept * (1 - kept)) + 2
    more = min(int(groups * kept + margin) + 1, groups)
    fewer, slack = int(groups * kept - margin), int(margin / 8)
    sampled = [
        1 - (1 - min(max(count / groups, 0), 1)) ** (1 / group)
        for count in (fewer - slack, more + slack)
    ]
    between = (sampled[1] - sampled[0]) * group * groups
    room = int((between + 3 * math.sqrt(between)) * keys / (group * groups))
    room = min(max(1 << room.bit_length(), ROOM[0]), ROOM[1])
    return Sample(group, groups, more, fewer, slack, room)


@triton.jit
def sampled_keys(keys, VEC: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """Samples `VEC` neighboring keys of each stratum of a row, at a hashed place.

    Hashing keeps a periodic pattern of scores from aligning with the sample. Memory is read in
    pieces of 64 bytes, so single keys of float32 would read sixteen times their size.
    """
    sample = tile_keys(R, C)
    stratum, width = sample // VEC, keys // (R * C)
    hashed = stratum.to(tl.uint32) * 2654435761
    hashed = (hashed ^ (hashed >> 15)) * 2246822519
    unit = stratum * width + ((hashed >> 8) % width.to(tl.uint32)).to(tl.int32)
    key = unit * VEC + sample % VEC
    return tl.multiple_of(tl.max_contiguous(key, [1, VEC]), [1, VEC])


@triton.jit
def one_zero(code):
    """Maps the code of -0.0 to that of 0.0, which is the same number."""
    return tl.where(code == -1, 0, code)


@triton.jit(
    do_not_specialize=[
        "units",
        "splits",
        "mask_b",
        "mask_h",
        "mask_q",
        "room",
        "more",
        "fewer",
        "slack",
        "lowest",
    ]
)
def sample_rows(
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
    more,
    fewer,
    slack,
    lowest,
    HAS_MASK: tl.constexpr,
    VEC: tl.constexpr,
    MASK_VEC: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    STARTS: tl.constexpr,
):
    """Writes `low` and `high` of each row: see `splits`. A column of the sample is a group."""
    keys = multiple(units, VEC)
    dtype: tl.constexpr = bias.dtype.element_ty
    row = tl.program_id(0)
    line = bias + row_offset(row, heads, queries, bias_b, bias_h, bias_q)
    allowed = mask + multiple(row_offset(row, heads, queries, mask_b, mask_h, mask_q), MASK_VEC)
    key = sampled_keys(keys, VEC, R, C)
    scores = load_scores(line, bias_k, key, keys, allowed, mask_k, HAS_MASK, False)
    largest = tl.max(without_nan(scores), 0, keep_dims=True)
    start_next(STARTS)
    start, end, count = whole_bracket(largest, lowest, dtype)
    codes = code_of(largest, dtype)
    low, reaching, _ = search_histogram(codes, more, slack, start, end, count)
    high, _, _ = search_histogram(codes, tl.maximum(fewer - slack, 1), slack, low, end, reaching)
    if count <= more:
        low = lowest
    if (count < fewer) | (fewer <= slack):
        high = low * 0 + infinity(dtype)
    note = notes_of(notes, row, splits, room)
    tl.store(note, one_zero(low))
    tl.store(note + 1, one_zero(tl.maximum(high, low)))
    tl.store(note + 2, 0)
