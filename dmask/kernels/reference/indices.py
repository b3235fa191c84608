"""Conversion of masks to indices and back, in readable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask import compat
from dmask.kernels.reference.select import SelectionInputs, chunks, kept_of
from dmask.kernels.reference.topk import topk_mask


def topk_indices(bias: Tensor, allowed: Tensor | None, window_size: int, floor: float) -> Tensor:
    """Returns the indices of the keys that `topk_mask` keeps with ties to the lowest index."""
    return indices_of(topk_mask(bias, allowed, window_size, floor, "lowest"), window_size)


def indices_of(mask: Tensor, width: int) -> Tensor:
    """Returns the kept keys of each row as ascending int32 indices `[..., width]`, padded with -1.

    No row may keep more than `width` keys.
    """
    key = torch.arange(mask.shape[-1], device=mask.device, dtype=torch.int32)
    # Counting gives each kept key its place. All other keys go to a last place that is cut off.
    place = mask.cumsum(dim=-1).sub_(1).masked_fill_(~mask, width)
    indices = key.new_full((*mask.shape[:-1], width + 1), -1)
    return indices.scatter_(-1, place, key.expand(mask.shape))[..., :width].contiguous()


def kept_indices(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, width: int) -> Tensor:
    """Returns the kept keys of each row `[B, H, Lq]` as int32 indices `[B, H, Lq, width]`."""
    indices = cutoff.new_empty((*threshold.shape, width))
    for queries, query, key in chunks(threshold.shape, inputs):
        kept = kept_of(inputs, threshold, cutoff, queries, query, key)
        indices[:, :, queries] = indices_of(kept, width)
    return indices


def mask_of(indices: Tensor, key_len: int, block_size: int, strict: bool) -> Tensor:
    """Returns the mask `[..., key_len]` of the given keys or blocks of keys.

    Negative indices are ignored, and others out of range too unless `strict`.

    Raises:
        ValueError: for an index past the end, if `strict`. On a GPU this fails later, with an
            assertion.
    """
    block_size = min(block_size, max(key_len, 1))
    count = -(-key_len // block_size)
    if strict:
        _check_range(indices, count)
    outside = (indices < 0) | (indices >= count)
    place = indices.long().masked_fill(outside, count)  # one extra place, cut off below
    named = torch.zeros(
        (*indices.shape[:-1], count + 1), dtype=torch.bool, device=indices.device
    ).scatter_(-1, place, True)[..., :count]
    return named.repeat_interleave(block_size, dim=-1)[..., :key_len].contiguous()


def _check_range(indices: Tensor, count: int) -> None:
    message = out_of_range(count)
    if indices.device.type != "cpu":
        compat.assert_later((indices < count).all(), message)
    elif indices.numel() and (largest := int(indices.max())) >= count:
        raise ValueError(f"{message}, got {largest}")


def out_of_range(count: int) -> str:
    """Returns the text of the error for an index past the end."""
    return f"indices must be below {count}, the number of keys or blocks"
