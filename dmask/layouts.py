"""The layouts of packed sequences and paged caches, as plain PyTorch operations.

Neither function waits for the device, and both can be captured in a CUDA graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmask import arguments, validation
from dmask.compat import known
from dmask.validation import INDEX_DTYPES


def packed_ranges(
    cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, total_q: int, *, is_causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Returns the keys that each query of a packed batch may see, as `key_ranges` for `select`.

    Sequences follow each other without padding, as in the `varlen` functions of FlashAttention.

    Args:
        cu_seqlens_q: where the queries of each sequence start, and the end of the last one:
            ascending, int32 or int64 `[n + 1]`, from 0.
        cu_seqlens_k: the same for keys.
        total_q: the number of queries. Those after the last sequence are padding: they see no key.
        is_causal: query `q` of a sequence sees keys up to `q + lk - lq` of that sequence, given the
            numbers `lq` and `lk` of its queries and keys.

    Returns:
        The first key of each query and the end of its keys, `[1, total_q]`, in the dtype of
        `cu_seqlens_k`. If a query sees no key, its end is not after its start.

    Raises:
        TypeError: for tensors that are not int32 or int64.
        ValueError: for tensors that are not 1-D, have different lengths or no entry, or are on
            different devices; for a negative `total_q`.

    >>> import torch, dmask
    >>> starts = torch.tensor([0, 2, 5])
    >>> dmask.packed_ranges(starts, starts, total_q=5, is_causal=True)
    (tensor([[0, 0, 2, 2, 2]]), tensor([[1, 2, 3, 4, 5]]))
    """
    cu_seqlens_q, cu_seqlens_k, total_q, is_causal = arguments.check_types(
        "Tensor cu_seqlens_q, Tensor cu_seqlens_k, SymInt total_q, bool is_causal",
        (cu_seqlens_q, cu_seqlens_k, total_q, is_causal),
    )
    _check_starts(cu_seqlens_q, cu_seqlens_k)
    validation.check_not_negative("total_q", total_q)
    query = torch.arange(total_q, dtype=cu_seqlens_q.dtype, device=cu_seqlens_q.device)
    # Appended limits: a sequence for the padding after the last one. It has no keys.
    queries = torch.cat((cu_seqlens_q, cu_seqlens_q.new_full((1,), total_q)))
    keys = torch.cat((cu_seqlens_k, cu_seqlens_k[-1:]))
    sequence = torch.searchsorted(cu_seqlens_q, query, right=True) - 1
    start, end = keys[sequence], keys[sequence + 1]
    if is_causal:
        later = queries[sequence + 1] - 1 - query  # queries of the sequence after this one
        end = end - later.to(end.dtype)
    return start[None], end[None]


def page_indices(indices: Tensor, page_table: Tensor, page_size: int) -> Tensor:
    """Returns where keys are in a paged cache: the entry of each key, counted over all pages.

    Kernels that read a paged cache (FlashMLA's sparse decoding, for example) take such indices.

    Args:
        indices: the keys of each row, int32 or int64 `[B, ...]`, as from `Selection.to_indices`.
            Negative ones are unused.
        page_table: the page in which each `page_size` keys of a sequence are, int32 or int64
            `[B|1, pages]`.
        page_size: number of keys per page.

    Returns:
        A tensor like `indices`: key `j` of batch entry `b` becomes
        `page_table[b, j // page_size] * page_size + j % page_size`. Negative indices stay.

    Raises:
        TypeError: for tensors that are not int32 or int64.
        ValueError: for mismatched shapes or devices, or a `page_size` below 1.
        IndexError: for an index beyond the page table. On a GPU this fails later, with an
            assertion.

    >>> import torch, dmask
    >>> dmask.page_indices(torch.tensor([[0, 5, -1]]), torch.tensor([[7, 3]]), page_size=4)
    tensor([[28, 13, -1]])
    """
    indices, page_table, page_size = arguments.check_types(
        "Tensor indices, Tensor page_table, SymInt page_size", (indices, page_table, page_size)
    )
    for name, tensor in (("indices", indices), ("page_table", page_table)):
        _check_integers(name, tensor)
    _check_pages(indices, page_table)
    validation.check_positive("page_size", page_size)
    key = indices.long()
    page = torch.div(key, page_size, rounding_mode="floor").clamp(min=0)
    batch = torch.arange(page_table.shape[0], device=indices.device)
    batch = batch.view(-1, *[1] * (indices.dim() - 1))
    entry = page_table[batch, page] * page_size + key % page_size
    return torch.where(key < 0, key, entry).to(indices.dtype)


# ------------------------------------------------------------------ checks


def _check_integers(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in INDEX_DTYPES:
        raise TypeError(f"{name} must be int32 or int64, got {tensor.dtype}")


def _check_starts(queries: Tensor, keys: Tensor) -> None:
    names: dict[str, Any] = {"cu_seqlens_q": queries, "cu_seqlens_k": keys}
    for name, tensor in names.items():
        _check_integers(name, tensor)
        if tensor.dim() != 1 or known(tensor.shape[0] == 0):
            raise ValueError(f"{name} must be 1-D (n + 1,), got shape {tuple(tensor.shape)}")
    validation.check_device(
        validation.meta(keys), validation.meta(queries), "cu_seqlens_q", "cu_seqlens_k"
    )
    if known(queries.shape[0] != keys.shape[0]):
        raise ValueError(
            f"cu_seqlens_q and cu_seqlens_k must have the same length, "
            f"got {queries.shape[0]} and {keys.shape[0]}"
        )


def _check_pages(indices: Tensor, page_table: Tensor) -> None:
    if indices.dim() == 0 or page_table.dim() != 2:
        raise ValueError(
            "indices must be [B, ...] and page_table [B|1, pages], "
            f"got shapes {tuple(indices.shape)} and {tuple(page_table.shape)}"
        )
    validation.check_device(
        validation.meta(page_table), validation.meta(indices), "indices", "page_table"
    )
    batch = page_table.shape[0]
    if known(batch != 1) and known(batch != indices.shape[0]):
        raise ValueError(
            f"page_table of shape {tuple(page_table.shape)} contradicts batch_size="
            f"{indices.shape[0]}: dimension 0 must be {indices.shape[0]} or 1"
        )
