"""Top-k keys by the scores of DeepSeek's lightning indexer, without all scores at once."""

from __future__ import annotations

from torch import Tensor

from dmask import arguments
from dmask.contracts.dispatch import call
from dmask.contracts.indexer import SPEC


def indexer_topk(
    index_query: Tensor,
    index_key: Tensor,
    index_weights: Tensor,
    window_size: int,
    *,
    scale: float | None = None,
    activation: str = "relu",
    attention_mask: Tensor | None = None,
    is_causal: bool = False,
    key_lengths: Tensor | None = None,
    sinks: int = 0,
    local: int = 0,
    min_dtype: float | None = None,
    key_ranges: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Returns the best keys of each query by the scores of DeepSeek's lightning indexer.

    The score of a key is `sum_h weight[h] * relu(scale * query[h] @ key)`, in float32. Scores of
    all queries and keys never exist together: at most 2^22 at a time.

    Args:
        index_query: `[B, Lq, Hi, D]`, floating point.
        index_key: `[B, Lk, D]`, in the same dtype.
        index_weights: `[B, Lq, Hi]`, floating point.
        window_size: the maximum number of keys that a query keeps.
        scale: a positive factor. Default: `1 / sqrt(D)`.
        activation: `"relu"` or `"none"`.
        attention_mask, is_causal, key_lengths, sinks, local, min_dtype, key_ranges: as in `select`;
            a 4-D mask has one head.

    Returns:
        int32 `[B, Lq, window_size]`: the kept keys in ascending order, padded with -1. The lower
        index wins ties.

    Raises:
        TypeError: for tensors of the wrong dtype, or an argument of the wrong type.
        ValueError: for mismatched shapes or devices, a scale that is not positive, an unknown
            activation, and as in `select`.

    Source: DeepSeek-V3.2-Exp, "Boosting Long-Context Efficiency with DeepSeek Sparse Attention".

    >>> import torch, dmask
    >>> query, key, weights = torch.randn(1, 6, 4, 8), torch.randn(1, 6, 8), torch.rand(1, 6, 4)
    >>> dmask.indexer_topk(query, key, weights, window_size=2, is_causal=True)[0, :2]
    tensor([[ 0, -1],
            [ 0,  1]], dtype=torch.int32)
    """
    starts, ends = arguments.check_pair("key_ranges", key_ranges)
    indices: Tensor = call(
        SPEC,
        index_query,
        index_key,
        index_weights,
        window_size,
        scale,
        activation,
        attention_mask,
        is_causal,
        key_lengths,
        sinks,
        local,
        min_dtype,
        starts,
        ends,
    )
    return indices
