"""Blocks of queries and keys for FlexAttention, in readable PyTorch."""

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


def block_lists(counts: Tensor, whole: int) -> tuple[Tensor, ...]:
    """Lists the blocks in FlexAttention's format, as `create_block_mask` does.

    Args:
        counts: how many keys are kept in each block, int32 `[B, H, nq, nk]`.
        whole: the number of keys in a full block.

    Returns:
        For each row of blocks, the number `[B, H, nq]` of partial blocks and the indices
        `[B, H, nq, nk]`, ascending, followed by those of all other blocks; the same for full
        blocks; and all four for each column of blocks. All are int32.
    """
    full = counts == (whole if whole < 2**31 else -1)  # which counts cannot be
    partial = (counts > 0) & ~full
    return (*_listed(partial), *_listed(full), *_listed(partial.mT), *_listed(full.mT))


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    indices = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(dim=-1, dtype=torch.int32), indices.int().contiguous()
