"""Counts of kept keys per block on the CPU."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from dmask.kernels.cpu.kept import count_blocks, kept_rows
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.reference.select import SelectionInputs


def kept_blocks(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, block_size: tuple[int, int]
) -> Tensor:
    """Same as `reference.blocks.kept_blocks`."""
    (batch, heads, queries), keys = threshold.shape, inputs.positions.key_len
    query_block = min(block_size[0], max(queries, 1))
    key_block = min(block_size[1], max(keys, 1))
    counts = cutoff.new_empty((batch, heads, -(-queries // query_block), -(-keys // key_block)))
    if counts.numel():
        kept, lines = kept_rows(inputs, threshold, cutoff), counts.view(-1, counts.shape[3])
        work = partial(count_blocks, kept, (query_block, key_block), lines.numpy())
        for_each_part(work, len(lines), query_block * keys)
    return counts
