"""How many keys a selection keeps in each tile, on CUDA."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmask.kernels.reference import blocks as reference
from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton.kept import count_blocks
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import selected

TILE = 128
"""The longest side of what a program looks at together."""


def kept_blocks(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, block_size: tuple[int, int]
) -> Tensor:
    """As in `reference.blocks`."""
    (batch, heads, queries), keys = threshold.shape, inputs.positions.key_len
    if inputs.floor == math.inf:
        return reference.kept_blocks(inputs, threshold, cutoff, block_size)
    query_block = min(block_size[0], max(queries, 1))
    key_block = min(block_size[1], max(keys, 1))
    shape = (batch, heads, -(-queries // query_block), -(-keys // key_block))
    counts = torch.empty(shape, dtype=torch.int32, device=cutoff.device)
    if counts.numel():
        arguments, constants = selected(inputs, threshold, cutoff, counts)
        launch(
            "kept_blocks",
            count_blocks,
            (counts.numel(),),
            (*threshold.shape, keys),
            *arguments,
            query_block,
            key_block,
            **constants,
            Q=min(16, 1 << (query_block - 1).bit_length()),
            K=min(TILE, max(16, 1 << (key_block - 1).bit_length())),
            num_warps=4,
        )
    return counts
