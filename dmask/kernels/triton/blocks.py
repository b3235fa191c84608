"""Blocks of queries and keys for FlexAttention, on CUDA."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dmask.kernels.reference import blocks as reference
from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton import layout
from dmask.kernels.triton.kept import count_blocks
from dmask.kernels.triton.launches import Launch
from dmask.kernels.triton.layout import Restricted, power_of_2, selected_rows
from dmask.kernels.triton.listed import write_lists

KEYS = 512
"""Keys that a program counts together, in several blocks if their size is a power of two."""
LONGEST = 128
"""Keys that a program counts together if it counts a single block."""


def kept_blocks(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, block_size: tuple[int, int]
) -> Tensor:
    """Same as `reference.blocks.kept_blocks`."""
    (batch, heads, queries), keys = threshold.shape, inputs.positions.key_len
    if not layout.supports((*threshold.shape, keys), inputs.floor):
        return reference.kept_blocks(inputs, threshold, cutoff, block_size)
    query_block = min(block_size[0], max(queries, 1))
    key_block = min(block_size[1], max(keys, 1))
    shape = (batch, heads, -(-queries // query_block), -(-keys // key_block))
    counts = cutoff.new_empty(shape)
    if counts.numel():
        tensors, restricted = selected_rows(inputs, threshold, cutoff)
        launch = _counting(restricted, query_block, key_block)
        launch(*tensors, counts)
    return counts


@lru_cache(maxsize=2**12)
def _counting(restricted: Restricted, query_block: int, key_block: int) -> Launch:
    batch, heads, queries, keys = shape = restricted.rows.shape
    numbers, constants = restricted.numbers()
    size = power_of_2(key_block)
    wide = max(1, KEYS // size) if size == key_block else 1
    return Launch(
        "kept_blocks",
        shape,
        count_blocks,
        (batch * heads * -(-queries // query_block) * -(-keys // (key_block * wide)),),
        (*numbers, query_block, key_block),
        **constants,
        PER_KEY=restricted.rows.bias_strides[2] == 0,
        WIDE=wide,
        Q=min(8 if wide > 1 else 16, power_of_2(query_block)),
        K=wide * size if wide > 1 else min(LONGEST, max(16, size)),
        num_warps=4,
    )


def block_lists(counts: Tensor, whole: int) -> tuple[Tensor, ...]:
    """Same as `reference.blocks.block_lists`."""
    batch, heads, rows, columns = counts.shape
    create = counts.new_empty if counts.numel() else counts.new_zeros
    lists = []
    for wide, long in ((rows, columns), (columns, rows)):
        for _ in ("partial", "full"):
            lists += [create((batch, heads, wide)), create((batch, heads, wide, long))]
    if counts.numel():
        _listing(tuple(counts.shape), whole, counts.device)(counts.contiguous(), *lists)
    return tuple(lists)


@lru_cache(maxsize=2**12)
def _listing(shape: tuple[int, int, int, int], whole: int, device: torch.device) -> Launch:
    batch, heads, rows, columns = shape
    return Launch(
        "block_lists",
        shape,
        write_lists,
        (batch * heads * (rows + columns),),
        (rows, columns, whole if whole < 2**31 else -1),
        BLOCK=min(1024, max(32, power_of_2(max(rows, columns)))),
        num_warps=1,
    )
