"""Attention over the keys that a dynamic mask keeps.

This is the "no padding" branch of flash-sparse-attn's integration, where one call to
`maybe_create_mask` replaces the inlined top-k and scatter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmask import arguments, shapes, validation
from dmask.compat import known
from dmask.contracts.attention import check_tensors
from dmask.contracts.masks import to_bool
from dmask.gather import sparse_attention
from dmask.mask import maybe_create_mask, topk_indices
from dmask.shapes import repeat_heads
from dmask.validation import Sizes, meta, optional_meta

BACKENDS = ("eager", "gather", "sdpa")
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
        backend: `"sdpa"` (`torch.nn.functional.scaled_dot_product_attention` with a mask),
            `"eager"`, the same in plain PyTorch operations, or `"gather"` (`sparse_attention`).
            The last one reads only the kept keys, which pays when decoding. It breaks ties by the
            lowest index, as `topk_indices` does.

    Returns:
        `[B, H, Lq, Dv]`, with zeros for a query that has no allowed keys. Gradients flow to query,
        key, value and bias.

    Raises:
        TypeError: for a bias that is not floating point, or a floating-point mask.
        ValueError: for mismatched shapes or devices, an unknown backend, a `window_size` without an
            `attention_bias`, `"gather"` without a `window_size`, or an integer mask with values
            other than 0 and 1.

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
    if backend == "gather" and window_size is None:
        raise ValueError("backend 'gather' requires window_size, got None")
    tensors = meta(query), meta(key), meta(value)
    sizes = check_tensors(*tensors, optional_meta(attention_bias), optional_meta(attention_mask))
    allowed = _allowed_keys(attention_mask, is_causal, sizes, query.device)
    if backend == "gather" and attention_bias is not None and window_size is not None:
        indices = topk_indices(attention_bias, allowed, window_size)
        return sparse_attention(
            query, key, value, indices, attention_bias=attention_bias, scale=scale
        )
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
