"""The fast CPU way: the threshold of each row by counting, a compare with it for the mask.

`torch.topk` finds the best keys, then a scatter writes them out one by one. A threshold is enough
to know which keys are kept, except where scores tie at the last place. The loops stand in `rows`
and `prefixes`. Numba, which compiles them, takes longer to import than all of dmask, and comes with
the first mask.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from dmask.kernels import order, reference
from dmask.kernels.parallel import for_each_part
from dmask.kernels.selection import Rows
from dmask.kernels.tables import NO_TABLE, seen_by, table_of

DTYPES = order.DTYPES

# Up to so many scores, top-k and scatter take less time than the way to compiled loops.
FEW_SCORES = 2**12
# From so many queries on, a heap that follows a growing prefix beats a selection per query.
MANY_QUERIES = 128


def takes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether these kernels are for a bias of that kind."""
    return device.type == "cpu" and dtype in DTYPES


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """As `reference.topk_mask`, for a 4-D bias of one of DTYPES."""
    from dmask.kernels import rows

    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)  # type: ignore[no-untyped-call]
    _, heads, queries, keys = shape
    scores = table_of(order.bits(bias), keys)
    mask = NO_TABLE if allowed is None else table_of(allowed, keys)
    limits, lowest = order.limits_of(floor, bias.dtype), tie_break == "lowest"
    # NumPy asks for huge pages where PyTorch does not: for 8 MiB a tenth of the time.
    kept = np.empty((prod(shape[:3]), keys), np.bool_)
    tied = np.empty(len(kept), np.bool_)

    def work(start: int, stop: int) -> None:
        rule = window_size, limits, lowest
        rows.mask_rows(start, stop, (heads, queries), scores, mask, *rule, kept, tied)

    for_each_part(work, len(kept), keys)
    result = torch.from_numpy(kept).view(shape)
    if not lowest and tied.any():
        # Which of equal scores torch.topk takes depends on the whole row: it is asked for those.
        some = torch.from_numpy(tied).view(shape[:3])
        scores_of = bias.expand(shape)[some]
        allowed_of = None if allowed is None else allowed.expand(shape)[some]
        result[some] = reference.topk_mask(scores_of, allowed_of, window_size, floor, tie_break)
    return result


def select(selection: Rows, shape: tuple[int, int, int], window_size: int) -> tuple[Tensor, Tensor]:
    """As `selection.select`, for a 4-D bias of one of DTYPES."""
    from dmask.kernels import prefixes, rows

    bias, allowed, _, positions, floor = selection
    _, heads, queries = shape
    scores = table_of(order.bits(bias), positions.key_len)
    mask = NO_TABLE if allowed is None else table_of(allowed, positions.key_len)
    seen, limits = seen_by(selection, shape), order.limits_of(floor, bias.dtype)
    thresholds, cutoffs = np.empty(prod(shape), scores.rows.dtype), np.empty(prod(shape), np.int32)
    per_key = scores.strides[2] == mask.strides[2] == 0
    together = per_key and positions.is_causal and queries >= MANY_QUERIES
    loop, at_once = (prefixes.select_prefixes, queries) if together else (rows.select_rows, 1)

    def work(start: int, stop: int) -> None:
        rule = seen, window_size, limits
        loop(start, stop, (heads, queries), scores, mask, *rule, thresholds, cutoffs)

    for_each_part(work, len(cutoffs) // at_once, at_once * positions.key_len)
    return order.scores(thresholds, bias.dtype).view(shape), torch.from_numpy(cutoffs).view(shape)
