"""A selection as a dense mask, in readable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs, keeps


def kept_mask(inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor) -> Tensor:
    """Returns the kept keys as a bool mask `[B, H, Lq, Lk]`."""
    query_len, key_len = threshold.shape[2], inputs.positions.key_len
    query = torch.arange(query_len, device=cutoff.device)[:, None]
    key = torch.arange(key_len, device=cutoff.device)
    kept = keeps(inputs, threshold[..., None], cutoff[..., None], query, key)
    return kept.expand(*threshold.shape, key_len).contiguous()
