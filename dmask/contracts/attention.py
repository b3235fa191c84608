"""What attention expects of its tensors."""

from __future__ import annotations

from collections.abc import Sequence

from dmask import validation
from dmask.compat import known
from dmask.validation import Sizes, TensorMeta


def check_tensors(
    query: TensorMeta,
    key: TensorMeta,
    value: TensorMeta,
    attention_bias: TensorMeta | None,
    attention_mask: TensorMeta | None = None,
) -> Sizes:
    """Checks all tensors against each other and returns `(batch_size, query_len, key_len)`."""
    given = tuple(tuple(tensor.shape) for tensor in (query, key, value))
    if any(len(shape) != 4 for shape in given):
        raise ValueError(f"query, key and value must be 4-D [B, H, L, D], got shapes {given}")
    batch, heads, query_len, head_dim = query.shape
    key_heads, key_len = key.shape[1:3]
    if not _same(key.shape, (batch, key_heads, key_len, head_dim)):
        raise ValueError(f"key must match the batch and head size of query, got shapes {given}")
    if not _same(value.shape[:3], key.shape[:3]):
        raise ValueError(f"value must match the batch, heads and length of key, got shapes {given}")
    if known(heads != key_heads) and (known(key_heads == 0) or known(heads % key_heads != 0)):
        raise ValueError(
            "the number of query heads must be divisible by the number of key heads, "
            f"got {heads} and {key_heads}"
        )
    sizes = (batch, query_len, key_len)
    if attention_bias is not None:
        validation.check_bias(attention_bias)
        validation.check_sizes(attention_bias, None, sizes)
        validation.check_heads("attention_bias", attention_bias, heads)
        validation.check_device(attention_bias, query, "query", "attention_bias")
    validation.check_mask(attention_mask, query, "query", sizes)
    if attention_mask is not None and len(attention_mask.shape) == 4:
        validation.check_heads("attention_mask", attention_mask, heads)
    return sizes


def check_named_keys(query: TensorMeta, indices: TensorMeta) -> None:
    """Checks the indices of the keys to attend to."""
    if indices.dtype not in validation.INDEX_DTYPES:
        raise TypeError(f"indices must be int32 or int64, got {indices.dtype}")
    if len(indices.shape) != 4:
        raise ValueError(
            "indices must be 4-D ({B|1}, {H|KVH|1}, {Lq|1}, K), "
            f"got shape {tuple(indices.shape)}"
        )
    validation.check_device(indices, query, "query", "indices")
    validation.check_heads("indices", indices, query.shape[1])
    for dim in (0, 2):
        if known(indices.shape[dim] != 1) and known(indices.shape[dim] != query.shape[dim]):
            raise ValueError(
                f"dimension {dim} of indices must be {query.shape[dim]} or 1, "
                f"got shape {tuple(indices.shape)}"
            )


def _same(shape: Sequence[int], other: Sequence[int]) -> bool:
    return not any(known(a != b) for a, b in zip(shape, other, strict=True))
