"""The fast CPU way: NumPy's vectorised quickselect finds each row's threshold, a compare the mask.

`torch.topk` finds the best keys, then a scatter writes them out one by one. A threshold is enough
to know which keys are kept, except where scores tie at the last place; only such rows go to the
reference.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmask.kernels import reference

DTYPES = (torch.float32, torch.float64)


def topk_mask(
    bias: Tensor, allowed: Tensor | None, window_size: int, floor: float, tie_break: str
) -> Tensor:
    """As `reference.topk_mask`, for a bias of one of DTYPES and no sizes of 0.

    The calls are few and cheap on purpose: at decode sizes a call costs more than its work.
    """
    # Autograd is out of the way in a kernel, but a leaf keeps its flag and numpy() would refuse it.
    scores = (bias.detach() if bias.requires_grad else bias).numpy()
    lowest = scores.dtype.type(floor)  # a floor between two scores counts as the nearer one
    if allowed is not None:
        scores = np.where(allowed.numpy(), scores, lowest)
    keys = scores.shape[-1]
    if window_size >= keys:
        return reference.eligible_keys(torch.from_numpy(scores), None, floor)
    place = keys - window_size
    ranked = scores.copy()
    ranked.partition(place)
    threshold = ranked[..., place, None]
    # Python's min is the quickest for few rows; a NaN may hide in it, and shows in the count below.
    thresholds = threshold.ravel().tolist()
    above_floor = min(thresholds) > lowest
    if not above_floor:
        # Where fewer keys than the window are above the floor, all of these and no others are kept.
        threshold = np.maximum(threshold, np.nextafter(lowest, np.inf))
    # NaN ranks above everything: it is never less. A NaN threshold drops nothing, and so counts as
    # a tie.
    dropped = np.less(scores, threshold, order="C")
    settled = above_floor and np.count_nonzero(dropped) == place * len(thresholds)
    kept = np.logical_not(dropped, dropped)
    if not settled:
        rows = (-1, keys)
        _settle_ties(kept.reshape(rows), scores.reshape(rows), window_size, floor, tie_break)
    return torch.from_numpy(kept)


def _settle_ties(
    kept: NDArray[np.bool_],
    rows: NDArray[np.floating],
    window_size: int,
    floor: float,
    tie_break: str,
) -> None:
    """Lets the reference decide the rows that keep more keys than the window."""
    tied = kept.sum(axis=-1) > window_size
    if tied.any():
        scores = torch.from_numpy(rows[tied])
        kept[tied] = reference.topk_mask(scores, None, window_size, floor, tie_break).numpy()
