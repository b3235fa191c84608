"""Chooses which keys each query attends to, by one rule everywhere.

A model scores its keys; a selection keeps the few keys that each query may see. dmask computes
selections and masks with `torch.library` ops, so that `torch.compile` traces them without graph
breaks.
"""

from dmask import ops as ops  # registers all ops, before any trace
from dmask.attention import dynamic_mask_attention
from dmask.gather import sparse_attention
from dmask.indexer import indexer_topk
from dmask.layouts import packed_ranges, page_indices
from dmask.mask import (
    block_smooth,
    create_mask,
    dynamic_mask,
    mask_from_indices,
    maybe_create_mask,
    relu_mask,
    topk_indices,
    topk_mask,
)
from dmask.registry import register_strategy, strategies, unregister_strategy
from dmask.selection import Selection, select

__all__ = [
    "Selection",
    "block_smooth",
    "create_mask",
    "dynamic_mask",
    "dynamic_mask_attention",
    "indexer_topk",
    "mask_from_indices",
    "maybe_create_mask",
    "packed_ranges",
    "page_indices",
    "register_strategy",
    "relu_mask",
    "select",
    "sparse_attention",
    "strategies",
    "topk_indices",
    "topk_mask",
    "unregister_strategy",
]

__version__ = "0.1.0"
