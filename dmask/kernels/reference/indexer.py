"""DeepSeek's lightning indexer in readable PyTorch: the scores of keys, and the best keys.

Only the scores of a few queries exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dmask.kernels.reference.indices import kept_indices
from dmask.kernels.reference.select import SelectionInputs, select

SCORES = 2**22
"""The maximum number of scores at a time."""
HEAD_SCORES = 2**18
"""The maximum number of products of queries and keys, before they are summed over heads: one MiB,
which stays in a cache of the CPU.
"""
MORE_HEAD_SCORES = 2**24
"""The same on other devices, which need more work at a time."""
KEYS = 2**10
"""Keys that are multiplied at once."""


class Kernels(NamedTuple):
    """The kernels that `indexer_topk` combines."""

    index_scores: Callable[..., Tensor]
    best_indices: Callable[..., Tensor]


def indexer_topk(
    query: Tensor,
    key: Tensor,
    weights: Tensor,
    relu: bool,
    scale: float,
    inputs: SelectionInputs,
    window_size: int,
    kernels: Kernels,
) -> Tensor:
    """Returns the keys that each query keeps, as int32 indices `[B, Lq, window_size]`.

    Args:
        inputs: the restrictions of rows `[B, 1, Lq, Lk]`. Its bias is not read.
    """
    batch, query_len = query.shape[:2]
    out = torch.empty((batch, query_len, window_size), dtype=torch.int32, device=query.device)
    step = max(1, SCORES // max(1, batch * key.shape[1]))
    for start in range(0, query_len, step):
        rows = slice(start, min(start + step, query_len))
        scores = kernels.index_scores(query[:, rows], key, weights[:, rows].float(), relu)
        # Scaling the sums changes no ranking. To scale what is summed would, by rounding.
        scores *= scale
        # The first of these queries is the one at `start`.
        positions = inputs.positions._replace(query_len=query_len - start)
        part = inputs.rows(rows)._replace(bias=scores[:, None], positions=positions)
        shape = batch, 1, rows.stop - start
        out[:, rows] = kernels.best_indices(part, shape, window_size)[:, 0]
    return out


def best_indices(inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int) -> Tensor:
    """Returns the keys that rows keep, as int32 indices `[B, H, Lq, window_size]`."""
    return kept_indices(inputs, *select(inputs, shape, window_size), window_size)


def index_scores(query: Tensor, key: Tensor, weights: Tensor, relu: bool) -> Tensor:
    """Returns the scores of keys, float32 `[B, Lq, Lk]`: for each head, the product of query and
    key (or 0 if it is negative, with `relu`) times the weight, summed over heads.

    Args:
        query: `[B, Lq, Hi, D]`.
        key: `[B, Lk, D]`.
        weights: float32 `[B, Lq, Hi]`.
    """
    batch, query_len, heads, size = query.shape
    key_len = key.shape[1]
    out = torch.empty((batch, query_len, key_len), dtype=torch.float32, device=query.device)
    most = HEAD_SCORES if query.device.type == "cpu" else MORE_HEAD_SCORES
    step = max(1, most // max(1, heads * min(key_len, KEYS)))
    for entry in range(batch):
        for start in range(0, query_len, step):
            some = query[entry, start : start + step].float()
            weight = weights[entry, start : start + step, None]
            for first in range(0, key_len, KEYS):
                keys = key[entry, first : first + KEYS].float()
                products = some.reshape(-1, size) @ keys.T
                products = products.relu_() if relu else products
                products = products.view(*some.shape[:2], len(keys))
                out[entry, start : start + step, first : first + KEYS] = (weight @ products)[:, 0]
    return out
