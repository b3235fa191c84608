"""Attention over the keys that a dynamic mask keeps.

This is the "no padding" branch of flash-sparse-attn's integration, where one call to
`maybe_create_mask` replaces the inlined top-k and scatter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmask import arguments, shapes, validation
from dmask.compat import known
from dmask.contracts.masks import to_bool
from dmask.mask import maybe_create_mask
from dmask.shapes import repeat_heads
from dmask.validation import Sizes, meta, optional_meta

BACKENDS = ("eager", "sdpa")
_DECLARED = (
    "Tensor query, Tensor key, Tensor value, Tensor? attention_bias, Tensor? attention_mask, "
    "SymInt? window_size, bool is_causal, float? scale, str backend"
)


def dynamic_mask_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_bias: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    window_size: int | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    backend: str = "sdpa",
) -> Tensor:
    """Attends from each query to the `window_size` keys that `attention_bias` scores highest.

    Args:
        query: `[B, H, Lq, D]`, floating point.
        key, value: `[B, KVH, Lk, D]` and `[B, KVH, Lk, Dv]`, where `KVH` divides `H`.
        attention_bias: scores that choose the keys and are added to the logits,
            `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`.
        attention_mask: the allowed keys, bool or integer 0/1, 4-D like the bias or `(B, S)`. See
            `create_mask`.
        window_size: the maximum number of keys that a query keeps, or `None` for all allowed keys.
        is_causal: if True, query `q` may see keys up to `q + Lk - Lq`.
        scale: the factor applied to the logits. Default: `1 / sqrt(D)`.
        backend: `"sdpa"` (`torch.nn.functional.scaled_dot_product_attention`) or `"eager"`, the
            same in plain PyTorch operations.

    Returns:
        `[B, H, Lq, Dv]`, with zeros for a query that has no allowed keys. Gradients flow to query,
        key, value and bias.

    Raises:
        TypeError: for a bias that is not floating point, or a floating-point mask.
        ValueError: for mismatched shapes or devices, an unknown backend, a `window_size` without an
            `attention_bias`, or an integer mask with values other than 0 and 1.

    >>> import torch, dmask
    >>> query, key = torch.randn(2, 4, 8, 16), torch.randn(2, 2, 8, 16)
    >>> scores = torch.randn(2, 2, 1, 8)
    >>> dmask.dynamic_mask_attention(query, key, key, scores, window_size=4, is_causal=True).shape
    torch.Size([2, 4, 8, 16])
    """
    query, key, value, attention_bias, attention_mask, window_size, is_causal, scale, backend = (
        arguments.check_types(
            _DECLARED,
            (
                query,
                key,
                value,
                attention_bias,
                attention_mask,
                window_size,
                is_causal,
                scale,
                backend,
            ),
        )
    )
    if backend not in BACKENDS:
        raise validation.unknown("backend", backend, BACKENDS)
    if window_size is not None and attention_bias is None:
        raise ValueError("window_size requires attention_bias, got None")
    sizes = _check(query, key, value, attention_bias, attention_mask)
    allowed = _allowed_keys(attention_mask, is_causal, sizes, query.device)
    mask = allowed
    if attention_bias is not None:
        mask = maybe_create_mask(attention_bias, allowed, *sizes, window_size)
        attention_bias = repeat_heads(attention_bias.to(query.dtype), query.shape[1])
    attend = _sdpa if backend == "sdpa" else _eager
    if mask is None:
        return attend(query, key, value, attention_bias, scale)
    mask = repeat_heads(mask, query.shape[1])
    # Leave a row with no keys unmasked and set its output to zero. A softmax over only -inf is NaN,
    # and so is its gradient, even if the output is masked.
    empty = ~mask.any(dim=-1, keepdim=True)
    bias = query.new_zeros(()) if attention_bias is None else attention_bias
    output = attend(query, key, value, torch.where(mask | empty, bias, -torch.inf), scale)
    return output.masked_fill(empty, 0.0)


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_bias: Tensor | None,
    attention_mask: Tensor | None,
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
        bias = meta(attention_bias)
        validation.check_bias(bias)
        validation.check_sizes(bias, None, sizes)
        validation.check_heads("attention_bias", bias, heads)
        validation.check_device(bias, meta(query), "query", "attention_bias")
    mask = optional_meta(attention_mask)
    validation.check_mask(mask, meta(query), "query", sizes)
    if mask is not None and len(mask.shape) == 4:
        validation.check_heads("attention_mask", mask, heads)
    return sizes


def _same(shape: Sequence[int], other: Sequence[int]) -> bool:
    return not any(known(a != b) for a, b in zip(shape, other, strict=True))


def _allowed_keys(
    attention_mask: Tensor | None, is_causal: bool, sizes: Sizes, device: torch.device
) -> Tensor | None:
    """Returns the keys each query may see before selection, 4-D and bool, or `None` for all."""
    _, query_len, key_len = sizes
    mask = None
    if attention_mask is not None:
        mask = shapes.bool_mask_4d(to_bool(attention_mask), key_len)
    if not is_causal:
        return mask
    last = torch.arange(query_len, device=device) + (key_len - query_len)
    causal = torch.arange(key_len, device=device) <= last[:, None]
    return causal[None, None] if mask is None else mask & causal


def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> Tensor:
    if bias is not None:
        # CUDA's kernels require a bias whose keys are contiguous in memory.
        bias = bias.expand(*bias.shape[:3], key.shape[2]).contiguous()
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=bias,
        scale=scale,
        enable_gqa=known(key.shape[1] != query.shape[1]),  # SDPA does not accept a SymBool
    )


def _eager(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> Tensor:
    groups = query.shape[1] // key.shape[1] if key.shape[1] else 1
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (query @ key.transpose(-2, -1)) * scale
    if bias is not None:
        logits = logits + bias
    wide = torch.promote_types(logits.dtype, torch.float32)
    return logits.softmax(dim=-1, dtype=wide).to(value.dtype) @ value
