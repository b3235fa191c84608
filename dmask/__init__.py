"""Masks of dynamic sparse attention, made the same way everywhere.

A model scores its keys, a mask keeps the few keys each query may see. dmask makes that mask: as ops
of `torch.library`, so that compiled models trace it without a graph break.
"""

from dmask.attention import dynamic_mask_attention
from dmask.mask import (
    block_smooth,
    create_mask,
    dynamic_mask,
    maybe_create_mask,
    relu_mask,
    topk_indices,
    topk_mask,
)
from dmask.registry import register_strategy, strategies, unregister_strategy
from dmask.selection import Selection, mask_from_indices, select

__all__ = [
    "Selection",
    "block_smooth",
    "create_mask",
    "dynamic_mask",
    "dynamic_mask_attention",
    "mask_from_indices",
    "maybe_create_mask",
    "register_strategy",
    "relu_mask",
    "select",
    "strategies",
    "topk_indices",
    "topk_mask",
    "unregister_strategy",
]

__version__ = "0.1.0"
