"""The fast CPU way: NumPy's vectorised quickselect finds each row's threshold, a compare the mask.

`torch.topk` finds the best keys, then a scatter writes them out one by one. A threshold is enough
to know which keys are kept, except where scores tie at the last place. The rows are worked on in
boxes that stay in a core's cache, see `parallel`.
"""

from __future__ import annotations

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
    kept = torch.empty(shape, dtype=torch.bool, device="cpu")
    tied = np.zeros(shape[:-1], dtype=np.bool_)
    bits, mask = order.bits(bias), None if allowed is None else allowed.numpy()
    out, floor_key = kept.numpy(), order.key_of(floor, bias.dtype)

    def work(box: Box) -> None:
        keys, seen = _keys(bits, None if mask is None else _part(mask, box), box, bias.dtype)
        into = out[box]
        if keys.shape[-1] == 0:
            into[:] = False
            return
        rows = keys.reshape(-1, keys.shape[-1])
        whole = into.reshape(rows.shape) if keys.shape == into.shape else None
        choice = quickselect.choose(rows, window_size, floor_key, out=whole)
        over = choice.counts > window_size
        if tie_break == "torch":
            tied[box] = over.reshape(into.shape[:-1])
        elif over.any():
            quickselect.drop_late_ties(choice, window_size)
        if whole is None:
            into[:] = False
            into[..., seen] = choice.kept.reshape(keys.shape)

    for_each(work, boxes(shape, bits.itemsize))
    if tied.any():
        # Which of equal scores torch.topk takes depends on the whole row: it is asked for those.
        rows = torch.from_numpy(tied)
        scores_of = bias.expand(shape)[rows]
        allowed_of = None if allowed is None else allowed.expand(shape)[rows]
        kept[rows] = reference.topk_mask(scores_of, allowed_of, window_size, floor, tie_break)
    return kept


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
        keys, seen = _keys(bits, permitted, box, dtype)
        budget: quickselect.Budget = window_size
        always = positions.always(query, every_key[seen], length)
        if always is not None:
            eligible = keys > floor_key
            shape = np.broadcast_shapes(keys.shape, always.shape)
            forced = np.broadcast_to(eligible & always, shape)
            budget = (window_size - forced.sum(axis=-1)).ravel()
            keys = order.forbid(keys, ~np.broadcast_to(always, shape))
        shape = threshold[box].shape
        if keys.shape[-1] == 0:
            return
        flat = np.broadcast_to(keys, (*shape, keys.shape[-1])).reshape(-1, keys.shape[-1])
        choice = quickselect.choose(flat, budget, floor_key)
        last, index = quickselect.bounds(choice, budget, nothing=order.INFINITY[dtype])
        threshold[box] = last.reshape(shape)
        cutoff[box] = np.where(index < 0, -1, index + seen.start).reshape(shape)

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


def _part(array: Array, box: Box) -> Array:
    """A box of an array that broadcasts to the shape the box was cut from."""
    cuts = (slice(None) if n == 1 else cut for n, cut in zip(array.shape, box, strict=False))
    return array[tuple(cuts)]


def _keys(bits: Array, allowed: Flags | None, box: Box, dtype: torch.dtype) -> tuple[Array, slice]:
    """The keys of a box's scores from the first to the last that any of its rows may see.

    Forbidden keys have a key below all others.
    """
    scores = _part(bits, box)
    if allowed is None:
        return order.keys(scores, dtype), slice(0, scores.shape[-1])
    allowed = np.broadcast_to(allowed, (*allowed.shape[:-1], scores.shape[-1]))
    # A box of a causal mask has a prefix, one of a padded batch leaves the padding out.
    columns = np.flatnonzero(np.logical_or.reduce(allowed, axis=(0, 1, 2)))
    seen = slice(columns[0], columns[-1] + 1) if columns.size else slice(0, 0)
    return order.forbid(order.keys(scores[..., seen], dtype), allowed[..., seen]), seen
