"""The path that dmask replaces: the top-k and scatter that models write in their forward pass.

dmask's masks must equal its result bit for bit, and benchmarks measure against it. It shares no
code with dmask.
"""

from __future__ import annotations

import torch
from torch import Tensor


def inlined_path(
    bias: Tensor, mask: Tensor | None, window_size: int, min_dtype: float | None = None
) -> Tensor:
    """Returns the top-k mask of the scores.

    Args:
        mask: bool; broadcasts with the bias.
    """
    floor = torch.finfo(bias.dtype).min if min_dtype is None else min_dtype
    if mask is not None:
        bias = bias.masked_fill(~mask, floor)
    values, indices = torch.topk(bias, window_size, dim=-1, largest=True, sorted=False)
    kept = torch.zeros_like(bias, dtype=torch.bool, memory_format=torch.contiguous_format)
    return kept.scatter_(-1, indices, values != floor)
