"""Top-k on the CPU: the threshold of each row by counting, and a compare with it for the mask.

`torch.topk` finds the best keys, and a scatter writes them out one by one. A threshold is enough to
know which keys are kept, except where scores tie at the last place.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from dmask.kernels.cpu import codes, rows
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.cpu.tables import NO_TABLE, table_of
from dmask.kernels.reference import topk as reference


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """As in `reference.topk`, for a 4-D bias."""
    shape = bias.shape
    if allowed is not None:
        shape = torch.broadcast_shapes(shape, allowed.shape)  # type: ignore[no-untyped-call]
    _, heads, queries, keys = shape
    scores = table_of(codes.bits(bias), keys)
    mask = NO_TABLE if allowed is None else table_of(allowed, keys)
    limits, lowest = codes.limits_of(floor, bias.dtype), tie_break == "lowest"
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
