"""`topk_indices`, `kept_indices` and `mask_from_indices`: kept keys as indices, and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, mask, window_size = inputs.scores(), inputs.padding()[:, None, None], inputs.window_size
    yield Case(
        "topk_indices, padding",
        "masked top-k, sort",
        lambda: dmask.topk_indices(bias, mask, window_size),
        lambda: sorted_topk(bias, mask, window_size),
    )
    selected = dmask.select(bias, window_size, attention_mask=mask)
    kept, indices = selected.to_mask(), selected.to_indices()
    yield Case(
        "to_indices of a selection",
        "argsort of its mask",
        selected.to_indices,
        lambda: indices_of(kept, window_size),
    )
    yield Case(
        "mask_from_indices",
        "scatter",
        lambda: dmask.mask_from_indices(indices, inputs.key_len),
        lambda: scattered(indices, inputs.key_len),
    )


def sorted_topk(bias: Tensor, mask: Tensor, window_size: int) -> Tensor:
    """Returns the best keys in ascending order, padded with -1."""
    key_len, floor = bias.shape[-1], torch.finfo(bias.dtype).min
    values, keys = bias.masked_fill(~mask, floor).topk(window_size, dim=-1, sorted=False)
    keys = keys.masked_fill(values == floor, key_len).sort(dim=-1).values
    return keys.masked_fill(keys == key_len, -1).int()


def indices_of(mask: Tensor, width: int) -> Tensor:
    """Returns the kept keys in ascending order, padded with -1."""
    keys = mask.byte().argsort(dim=-1, descending=True, stable=True)[..., :width]
    return keys.masked_fill(~mask.gather(-1, keys), -1).int()


def scattered(indices: Tensor, key_len: int) -> Tensor:
    """Returns the mask of the keys. -1 goes to an extra column, which is cut off."""
    keys = indices.long().masked_fill(indices < 0, key_len)
    shape = (*indices.shape[:-1], key_len + 1)
    mask = torch.zeros(shape, dtype=torch.bool, device=indices.device)
    return mask.scatter_(-1, keys, True)[..., :key_len]
