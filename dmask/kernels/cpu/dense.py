"""Selections as dense masks on the CPU."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from dmask.kernels.cpu.kept import kept_rows, write_mask
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.reference.select import SelectionInputs


def kept_mask(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor) -> Tensor:
    """Same as `reference.dense.kept_mask`."""
    keys = inputs.positions.key_len
    out = torch.empty((*threshold.shape, keys), dtype=torch.bool)
    if out.numel():
        kept = kept_rows(inputs, threshold, cutoff)
        work = partial(write_mask, kept, out.view(-1, keys).numpy())
        for_each_part(work, len(kept.cutoffs), keys)
    return out
