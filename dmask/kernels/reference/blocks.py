"""Counts of kept keys per tile, in readable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs, chunks, kept_of


def kept_blocks(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, block_size: tuple[int, int]
) -> Tensor:
    """Counts the kept keys in each block of queries and keys: int32 `[B, H, nq, nk]`."""
    (batch, heads, query_len), key_len = threshold.shape, inputs.positions.key_len
    query_block = min(block_size[0], max(query_len, 1))
    key_block = min(block_size[1], max(key_len, 1))
    key_blocks = -(-key_len // key_block)
    counts = cutoff.new_empty((batch, heads, -(-query_len // query_block), key_blocks))
    for queries, query, key in chunks(threshold.shape, inputs, multiple_of=query_block):
        kept = kept_of(inputs, threshold, cutoff, queries, query, key)
        missing = (0, -key_len % key_block, 0, -len(query) % query_block)
        kept = torch.nn.functional.pad(kept, missing)
        first, some = queries.start // query_block, kept.shape[2] // query_block
        blocks = kept.view(batch, heads, some, query_block, key_blocks, key_block)
        counts[:, :, first : first + some] = blocks.sum(dim=(3, 5))
    return counts
