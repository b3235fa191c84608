"""Conversion of selections to dense masks, on CUDA."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from dmask.kernels.reference import dense as reference
from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton import layout
from dmask.kernels.triton.kept import write_mask
from dmask.kernels.triton.launches import Launch
from dmask.kernels.triton.layout import Restricted, power_of_2, selected_rows

QUERIES, KEYS = 16, 2048
"""Queries and keys per program. Scores that all queries share are loaded once."""


def kept_mask(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor) -> Tensor:
    """Same as `reference.dense.kept_mask`."""
    shape = *threshold.shape, inputs.positions.key_len
    if not layout.supports(shape, inputs.floor):
        return reference.kept_mask(inputs, threshold, cutoff)
    out = torch.empty(shape, dtype=torch.bool, device=cutoff.device)
    if out.numel():
        tensors, restricted = selected_rows(inputs, threshold, cutoff)
        _prepared(restricted)(*tensors, out)
    return out


@lru_cache(maxsize=2**12)
def _prepared(restricted: Restricted) -> Launch:
    batch, heads, queries, keys = shape = restricted.rows.shape
    unit = math.gcd(keys, 16)  # the flags that a thread stores at once
    numbers, constants = restricted.numbers(unit)
    tile = min(KEYS, max(32, power_of_2(keys)))
    return Launch(
        "kept_mask",
        shape,
        write_mask,
        (batch * heads * -(-queries // QUERIES) * -(-keys // tile),),
        numbers,
        **constants,
        PER_KEY=restricted.rows.bias_strides[2] == 0,
        VEC=unit,
        Q=QUERIES,
        K=tile,
        num_warps=max(1, tile // 512),
    )
