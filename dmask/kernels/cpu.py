"""The fast CPU way: NumPy's vectorised quickselect finds each row's threshold, a compare the mask.

`torch.topk` finds the best keys, then a scatter writes them out one by one. A threshold is enough
to know which keys are kept, except where scores tie at the last place. The rows are worked on in
boxes of rows, see `parallel`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dmask.kernels import order, prefixes, quickselect, reference
from dmask.kernels.order import Array
from dmask.kernels.parallel import Box, boxes, for_each
from dmask.kernels.quickselect import Flags
from dmask.kernels.selection import Rows

DTYPES = order.DTYPES

# Up to so many scores, a few calls of PyTorch take less time than the calls around a quickselect.
FEW_SCORES = 2**13
# From so many queries on, a heap that follows a growing prefix beats a quickselect per query.
MANY_QUERIES = 128


def takes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether these kernels are for a bias of that kind."""
    return device.type == "cpu" and dtype in DTYPES


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """As `reference.topk_mask`, for a 4-D bias of one of DTYPES."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)  # type: ignore[no-untyped-call]
    if shape.numel() <= FEW_SCORES:
        return reference.topk_mask(bias, allowed, window_size, floor, tie_break)
    # NumPy asks for huge pages where PyTorch does not: for 8 MiB a tenth of the time.
    kept = np.empty(shape, dtype=np.bool_)
    tied = np.zeros(shape[:-1], dtype=np.bool_)
    kept_rows, tied_rows = kept.reshape(-1, shape[-1]), tied.reshape(-1)
    bits, mask = order.bits(bias), None if allowed is None else allowed.numpy()
    floor_key = order.key_of(floor, bias.dtype)

    def work(box: Box) -> None:
        seen, scores, permitted = _cut(bits, None if mask is None else _part(mask, box), box)
        rows = _row_range(box, shape)
        kept_rows[rows, : seen.start] = False
        kept_rows[rows, seen.stop :] = False
        if seen.start == seen.stop:
            return
        into = kept_rows[rows, seen]
        sizes = kept[box].shape[:-1]
        no_choice = window_size >= into.shape[-1] and floor_key < 0
        if no_choice and _keep_all(scores, permitted, sizes, bias.dtype, floor_key, into):
            return
        choice = _choose(scores, permitted, sizes, bias.dtype, window_size, floor_key, into)
        excess = quickselect.excess(choice, window_size, floor_key)
        if excess is not None and tie_break == "torch":
            tied_rows[rows] = excess > 0
        elif excess is not None:
            quickselect.drop_late_ties(choice, excess)

    for_each(work, boxes(shape, bits.itemsize))
    result = torch.from_numpy(kept)
    if tied.any():
        # Which of equal scores torch.topk takes depends on the whole row: it is asked for those.
        some = torch.from_numpy(tied)
        scores_of = bias.expand(shape)[some]
        allowed_of = None if allowed is None else allowed.expand(shape)[some]
        result[some] = reference.topk_mask(scores_of, allowed_of, window_size, floor, tie_break)
    return result


def select(rows: Rows, shape: tuple[int, int, int], window_size: int) -> tuple[Tensor, Tensor]:
    """As `selection.select`, for a 4-D bias of one of DTYPES."""
    bits, positions = order.bits(rows.bias), rows.positions
    per_key = rows.bias.shape[2] == 1 and (rows.allowed is None or rows.allowed.shape[2] == 1)
    threshold = np.full(shape, order.INFINITY[rows.bias.dtype], bits.dtype)
    cutoff = np.full(shape, -1, np.int32)
    if per_key and positions.is_causal and positions.query_len >= MANY_QUERIES:
        _select_prefixes(rows, bits, window_size, threshold, cutoff)
    else:
        _select_rows(rows, bits, window_size, threshold, cutoff)
    return order.scores(threshold, rows.bias.dtype), torch.from_numpy(cutoff)


def _select_rows(
    rows: Rows, bits: Array, window_size: int, threshold: Array, cutoff: Array
) -> None:
    """Selects for every row by itself."""
    dtype, positions = rows.bias.dtype, rows.positions
    floor_key = order.key_of(rows.floor, dtype)
    allowed, lengths = (None if t is None else t.numpy() for t in (rows.allowed, rows.lengths))
    every_key = np.arange(positions.key_len)

    def work(box: Box) -> None:
        query = np.arange(box[2].start, box[2].stop)[:, None]
        length = None if lengths is None else _part(lengths, box)
        permitted = positions.sees(query, every_key, length)
        if allowed is not None:
            part = _part(allowed, box)
            permitted = part if permitted is None else permitted & part
        if permitted is not None:
            permitted = permitted.reshape((1,) * (4 - permitted.ndim) + permitted.shape)
        seen, scores, permitted = _cut(bits, permitted, box)
        if seen.start == seen.stop:
            return
        budget: quickselect.Budget = window_size
        always = positions.always(query, every_key[seen], length)
        shape = threshold[box].shape
        if always is not None:
            eligible = order.keys(scores, dtype) > floor_key
            if permitted is not None:
                eligible = eligible & permitted
            budget = window_size - np.broadcast_to((eligible & always).sum(axis=-1), shape).ravel()
            permitted = np.broadcast_to(eligible & ~always, (*shape, scores.shape[-1]))
        into = np.empty((math.prod(shape), scores.shape[-1]), np.bool_)
        choice = _choose(scores, permitted, shape, dtype, budget, floor_key, into)
        key, index = quickselect.bounds(choice, budget)
        nothing = index < 0
        threshold[box] = np.where(nothing, order.INFINITY[dtype], key).reshape(shape)
        cutoff[box] = np.where(nothing, -1, index + seen.start).reshape(shape)

    for_each(work, boxes((*threshold.shape, positions.key_len), bits.itemsize))


def _select_prefixes(
    rows: Rows, bits: Array, window_size: int, threshold: Array, cutoff: Array
) -> None:
    """Selects for all rows that rank prefixes of the same scores together."""
    positions = rows.positions
    every_key = np.arange(positions.key_len)
    floor_key = order.key_of(rows.floor, rows.bias.dtype)
    for b, h in np.ndindex(threshold.shape[:2]):
        box = (slice(b, b + 1), slice(h, h + 1), slice(0, 1))
        keys = order.keys(_part(bits, box), rows.bias.dtype)[0, 0, 0]
        length = positions.key_len
        if rows.lengths is not None:
            length = _part(rows.lengths.numpy(), box).item()
        eligible = (keys > floor_key) & (every_key < length)
        if rows.allowed is not None:
            eligible &= _part(rows.allowed.numpy(), box)[0, 0, 0]
        last = prefixes.last_kept(keys, eligible, positions, length, window_size)
        found = last != prefixes.NOTHING
        threshold[b, h, found] = keys[last[found]]
        cutoff[b, h] = last


def _row_range(box: Box, shape: tuple[int, ...]) -> slice:
    """Which rows of an array of `shape` a box has: they are contiguous."""
    sizes = [cut.stop - cut.start for cut in box]
    start = int(np.ravel_multi_index([cut.start for cut in box], shape[:-1]))
    return slice(start, start + math.prod(sizes))


def _part(array: Array, box: Box) -> Array:
    """A box of an array that broadcasts to the shape the box was cut from."""
    cuts = (slice(None) if n == 1 else cut for n, cut in zip(array.shape, box, strict=False))
    return array[tuple(cuts)]


def _cut(bits: Array, allowed: Flags | None, box: Box) -> tuple[slice, Array, Flags | None]:
    """A box's scores and mask, from the first to the last key that any of its rows may see."""
    scores = _part(bits, box)
    if allowed is None:
        return slice(0, scores.shape[-1]), scores, None
    allowed = np.broadcast_to(allowed, (*allowed.shape[:-1], scores.shape[-1]))
    # A box of a causal mask has a prefix, one of a padded batch leaves the padding out.
    columns = np.flatnonzero(np.logical_or.reduce(allowed, axis=(0, 1, 2)))
    seen = slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 0)
    return seen, scores[..., seen], allowed[..., seen]


def _rows(array: Array, sizes: tuple[int, ...]) -> Array:
    """A box of `sizes` batches, heads and queries, one row each: `[rows, keys]`."""
    return np.broadcast_to(array, (*sizes, array.shape[-1])).reshape(math.prod(sizes), -1)


def _forbidden(allowed: Flags | None, sizes: tuple[int, ...]) -> quickselect.Forbidden | None:
    if allowed is None:
        return None
    # Columns that no row may see are cut off by now; a causal mask forbids few others.
    columns = np.flatnonzero(~np.logical_and.reduce(allowed, axis=(0, 1, 2)))
    if not columns.size:
        return None
    some = slice(int(columns[0]), int(columns[-1]) + 1)
    return quickselect.Forbidden(some, _rows(allowed[..., some], sizes))


def _keep_all(
    scores: Array,
    allowed: Flags | None,
    sizes: tuple[int, ...],
    dtype: torch.dtype,
    floor_key: int,
    out: Flags,
) -> bool:
    """Keeps all of a box that is above a floor below zero; `False` where a NaN is in the way."""
    if order.has_negative_nan(scores, dtype):
        return False
    quickselect.keep_all_above(_rows(scores, sizes), _forbidden(allowed, sizes), floor_key, out)
    return True


def _choose(
    scores: Array,
    allowed: Flags | None,
    sizes: tuple[int, ...],
    dtype: torch.dtype,
    budget: quickselect.Budget,
    floor_key: int,
    out: Flags,
) -> quickselect.Choice:
    """Chooses from a box of scores, given as their bits.

    Args:
        sizes: how many batches, heads and queries the box has.
        out: where to write which keys are kept, `[rows, keys]`.
    """
    forbidden = _forbidden(allowed, sizes)
    if isinstance(budget, int) and not order.has_negative_nan(scores, dtype):
        bits, infinity = _rows(scores, sizes), order.INFINITY[dtype]
        choice = quickselect.choose_above_zero(bits, forbidden, budget, floor_key, infinity, out)
        if choice is not None:
            return choice
    keys = _rows(order.keys(scores, dtype), sizes)
    return quickselect.choose(keys, forbidden, budget, floor_key, out)
