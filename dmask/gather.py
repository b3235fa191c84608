"""Attention to named keys alone: gathers the keys and values of each row, then attends to them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_compiling

from dmask import arguments
from dmask.compat import known
from dmask.contracts.attention import check_named_keys, check_tensors
from dmask.shapes import repeat_heads
from dmask.validation import meta, optional_meta

GATHERED_ENTRIES = 2**24
"""The maximum number of gathered entries of keys and values at a time, in eager mode."""


def sparse_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    indices: Tensor,
    *,
    attention_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attends from each query to the keys that `indices` names, at a cost of `Lq * K`.

    Masked attention multiplies each query with all `Lk` keys, whatever the mask. So this pays where
    `K` is much smaller than `Lk`, above all when decoding, and not where many queries have to
    gather the same keys.

    Args:
        query: `[B, H, Lq, D]`, floating point.
        key, value: `[B, KVH, Lk, D]` and `[B, KVH, Lk, Dv]`, where `KVH` divides `H`.
        indices: the keys of each query, int32 or int64 `({B|1}, {H|KVH|1}, {Lq|1}, K)`, as from
            `topk_indices` or `Selection.to_indices`: in any order, each key at most once. Negative
            indices are unused.
        attention_bias: scores that are added to the logits, `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`.
        scale: the factor applied to the logits. Default: `1 / sqrt(D)`.

    Returns:
        `[B, H, Lq, Dv]`, with zeros for a query that has no keys. Gradients flow to query, key,
        value and bias.

    In eager mode, at most 2^24 entries of keys and values are gathered at a time; for gradients,
    and in compiled code, all of them are.

    Raises:
        TypeError: for indices that are not int32 or int64, or a bias that is not floating point.
        ValueError: for mismatched shapes or devices.
        IndexError: for an index past the end. On a GPU this fails later, with an assertion.

    >>> import torch, dmask
    >>> query, cache = torch.randn(2, 4, 1, 16), torch.randn(2, 2, 100, 16)
    >>> indices = dmask.topk_indices(torch.randn(2, 2, 1, 100), None, window_size=8)
    >>> dmask.sparse_attention(query, cache, cache, indices).shape
    torch.Size([2, 4, 1, 16])
    """
    query, key, value, indices, attention_bias, scale = arguments.check_types(
        "Tensor query, Tensor key, Tensor value, Tensor indices, Tensor? attention_bias, "
        "float? scale",
        (query, key, value, indices, attention_bias, scale),
    )
    tensors = meta(query), meta(key), meta(value)
    batch, query_len, key_len = check_tensors(*tensors, optional_meta(attention_bias))
    check_named_keys(meta(query), meta(indices))
    heads, width = query.shape[1], indices.shape[3]
    if known(width == 0) or known(key_len == 0):
        return query.new_zeros((batch, heads, query_len, value.shape[3]))
    choices = _choices(heads, key.shape[1], indices.shape[1])
    indices = repeat_heads(indices, choices).expand(batch, choices, query_len, width)
    if is_compiling():
        return _attend(query, key, value, indices, attention_bias, scale)
    entries = batch * choices * width * (key.shape[3] + value.shape[3])
    step = max(1, GATHERED_ENTRIES // max(1, entries))
    outputs = []
    for start in range(0, max(1, query_len), step):
        rows = slice(start, start + step)
        bias = attention_bias
        if bias is not None and bias.shape[2] != 1:
            bias = bias[:, :, rows]
        outputs.append(_attend(query[:, :, rows], key, value, indices[:, :, rows], bias, scale))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _choices(heads: int, key_heads: int, own: int) -> int:
    """Returns to how many heads those of indices are repeated: each gathers from one key head."""
    if known(own % key_heads == 0):
        return own
    return key_heads if known(key_heads % own == 0) else heads


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    indices: Tensor,
    bias: Tensor | None,
    scale: float | None,
) -> Tensor:
    """Attends to keys that are the same for all query heads of a choice: of a head of `indices`."""
    batch, heads, query_len, head_dim = query.shape
    choices, width = indices.shape[1], indices.shape[3]
    groups = heads // choices
    # Unused places read a key of the same row: those that are not named may hold garbage.
    last = indices.amax(dim=-1, keepdim=True).clamp(min=0)
    place = torch.where(indices < 0, last, indices).long()
    keys, values = (_rows(tensor, place) for tensor in (key, value))
    kept = (indices >= 0)[:, :, None]
    # As in `dynamic_mask_attention`, a row with no keys stays unmasked and its output becomes zero.
    empty = ~kept.any(dim=-1, keepdim=True)
    added = query.new_zeros(()) if bias is None else _at(bias, place, groups).to(query.dtype)
    mask = torch.where(kept | empty, added, -torch.inf)
    # For SDPA, each row of a choice is a batch entry, whose queries are those of its heads.
    rows = batch * choices * query_len
    queries = query.reshape(batch, choices, groups, query_len, head_dim).transpose(2, 3)
    output = torch.nn.functional.scaled_dot_product_attention(
        queries.reshape(rows, 1, groups, head_dim),
        keys.reshape(rows, 1, width, head_dim),
        values.reshape(rows, 1, width, value.shape[3]),
        attn_mask=mask.transpose(2, 3).reshape(rows, 1, mask.shape[2], width),
        scale=scale,
    )
    output = output.view(batch, choices, query_len, groups, value.shape[3]).transpose(2, 3)
    return output.masked_fill(empty, 0.0).flatten(1, 2)


def _rows(tensor: Tensor, place: Tensor) -> Tensor:
    """Returns the rows `[B, C, Lq, K, D]` of a tensor `[B, KVH, Lk, D]`, given their places
    `[B, C, Lq, K]`. Choice `c` is of head `c // (C // KVH)`.
    """
    batch, heads, length, size = tensor.shape
    choices = place.shape[1]
    device = tensor.device
    head = torch.arange(choices, device=device) // max(1, choices // max(1, heads))
    first = torch.arange(batch, device=device)[:, None] * heads + head
    if tensor.is_contiguous():  # copying whole rows is faster than indexing
        flat = (first[:, :, None, None] * length + place).flatten()
        return tensor.view(-1, size).index_select(0, flat).view(*place.shape, size)
    entry = torch.arange(batch, device=device)[:, None, None, None]
    return tensor[entry, head[:, None, None], place]


def _at(bias: Tensor, place: Tensor, groups: int) -> Tensor:
    """Returns the entries `[B, C, G|1, Lq, K]` of a bias at the places `[B, C, Lq, K]`."""
    batch, choices, query_len, _ = place.shape
    device = place.device
    if known(bias.shape[1] == 1) or known(bias.shape[1] == choices):
        rows = bias.expand(batch, choices, query_len, -1)
        found = rows.gather(3, place) if known(bias.shape[3] != 1) else rows
        return found[:, :, None]

    def index(size: int, count: int) -> Tensor:
        """Returns the entry of a dimension of `size`, or 1, for each of `count` entries."""
        return torch.arange(count, device=device) // max(1, count // max(1, size))

    entry = index(bias.shape[0], batch)[:, None, None, None, None]
    head = index(bias.shape[1], choices * groups).view(choices, groups)[:, :, None, None]
    query = index(bias.shape[2], query_len)[:, None]
    key = place[:, :, None] if known(bias.shape[3] != 1) else place[:, :, None] * 0
    return bias[entry, head, query, key]
