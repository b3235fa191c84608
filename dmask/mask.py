"""The mask helpers: plain Python functions, each of which calls one op.

Shape legend: `B` batch, `H` query heads, `KVH` key/value heads (`H = KVH * groups`), `Lq` queries,
`Lk` keys. In every mask `True` means *may be attended to*.

The helpers and their names come from flash-sparse-attn (`utils/mask.py`). Integrations call them
instead of inlining a top-k and a scatter.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dmask import arguments, shapes, validation
from dmask.compat import known
from dmask.contracts import indices as _indices
from dmask.contracts import relu, topk
from dmask.contracts.block_smooth import SPEC as BLOCK_SMOOTH
from dmask.contracts.create_mask import SPEC as CREATE_MASK
from dmask.contracts.dispatch import call
from dmask.contracts.masks import to_bool
from dmask.registry import encode_options


def maybe_create_mask(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    batch_size: int,
    query_len: int,
    key_len: int,
    window_size: int | None,
    min_dtype: float | None = None,
    block_size: int | None = None,
    type: str = "topk",
    *,
    tie_break: str = "torch",
    options: Mapping[str, object] | None = None,
) -> Tensor | None:
    """Creates a mask if there are more keys than the window, otherwise returns the given mask.

    Takes the same arguments as `create_mask`.

    Returns:
        `attention_mask` unchanged and unchecked if `window_size is None` or
        `key_len <= window_size`; otherwise the result of `create_mask`.

    A compiled model traces this branch, so it recompiles once when a growing `key_len` exceeds
    `window_size`. `create_mask` does not branch.

    >>> import torch, dmask
    >>> bias = torch.tensor([0.3, 0.1, 0.2]).view(1, 1, 1, 3)
    >>> dmask.maybe_create_mask(bias, None, 1, 1, 3, window_size=2)
    tensor([[[[ True, False,  True]]]])
    >>> dmask.maybe_create_mask(bias, None, 1, 1, 3, window_size=4) is None
    True
    """
    if window_size is None:
        return attention_mask
    declared = "SymInt key_len, SymInt window_size"
    key_len, window_size = arguments.check_types(declared, (key_len, window_size))
    if known(key_len <= window_size):
        return attention_mask
    return create_mask(
        attention_bias,
        attention_mask,
        batch_size,
        query_len,
        key_len,
        window_size,
        min_dtype,
        block_size,
        type,
        tie_break=tie_break,
        options=options,
    )


def create_mask(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    batch_size: int,
    query_len: int,
    key_len: int,
    window_size: int | None,
    min_dtype: float | None = None,
    block_size: int | None = None,
    type: str = "topk",
    *,
    tie_break: str = "torch",
    options: Mapping[str, object] | None = None,
) -> Tensor:
    """Creates the mask of the keys that each query may attend to.

    Args:
        attention_bias: floating-point scores, `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`.
        attention_mask: the allowed keys, bool or integer 0/1, or `None` for all. 4-D like the bias,
            or `(B, S)`. With `S == key_len` it covers all keys. With `S == query_len < key_len` it
            covers only the new keys, and all cached keys before them are allowed.
        batch_size, query_len, key_len: `B`, `Lq`, `Lk`.
        window_size: the maximum number of keys that a row keeps. If it exceeds `key_len`, a row
            keeps all its allowed keys.
        min_dtype: the floor: the score that forbidden keys get. A key at or below it is never
            kept. Default: the smallest finite value of the bias dtype.
        block_size: if given, smooths the finished mask. See `block_smooth`.
        type: the strategy, one of `strategies()`. `"topk"` keeps the `window_size` best keys,
            `"relu"` the keys with a score above zero (it ignores the window), `"topp"` the smallest
            set of top keys whose softmax mass reaches the option `p`, `"ratio"` the best `ratio` of
            the allowed keys, `"block_topk"` the best blocks of `key_block` keys by the `"max"` or
            `"mean"` (option `pool`) of their scores, plus the block at the row's position (its
            mask has a row per query).
        tie_break: which keys `"topk"` keeps if scores tie at the last rank. `"torch"` keeps the
            keys that `torch.topk(..., sorted=False)` picks, bit for bit. `"lowest"` keeps the keys
            with the lowest index, so that the result of a row depends only on that row. Other
            strategies that rank keys always use the lowest index.
        options: the options of the strategy `type`, by name: `{"p": 0.9}`.

    Returns:
        A new bool mask with the broadcast shape of bias and mask, where heads repeat per group, and
        a last dimension of `key_len`. It never requires grad.

    Raises:
        TypeError: for a bias that is not floating point, a floating-point mask, or an argument of
            the wrong type.
        ValueError: for mismatched shapes or devices, sizes below 1, a floor that the dtype cannot
            hold, an integer mask with values other than 0 and 1, or an unknown `type`, `tie_break`
            or option.

    >>> import torch, dmask
    >>> bias = torch.tensor([0.3, 0.1, 0.2, 0.4]).view(1, 1, 1, 4)
    >>> padding = torch.tensor([[True, True, True, False]])
    >>> dmask.create_mask(bias, padding, batch_size=1, query_len=1, key_len=4, window_size=2)
    tensor([[[[ True, False,  True, False]]]])
    """
    mask: Tensor = call(
        CREATE_MASK,
        attention_bias,
        attention_mask,
        batch_size,
        query_len,
        key_len,
        window_size,
        min_dtype,
        block_size,
        type,
        tie_break,
        "" if options is None else encode_options(options),
    )
    return mask


def dynamic_mask(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None = None,
    *,
    tie_break: str = "torch",
) -> Tensor:
    """Creates a top-k mask. This is an alias of `topk_mask`: the name in flash-sparse-attn.

    >>> import torch, dmask
    >>> dmask.dynamic_mask(torch.tensor([[[[0.3, 0.1, 0.2]]]]), None, window_size=1)
    tensor([[[[ True, False, False]]]])
    """
    return topk_mask(attention_bias, attention_mask, window_size, min_dtype, tie_break=tie_break)


def topk_mask(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None = None,
    *,
    tie_break: str = "torch",
) -> Tensor:
    """Keeps the `window_size` best keys of each row, except those at or below the floor.

    Args:
        attention_bias: floating-point scores, `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`.
        attention_mask: the allowed keys, bool or integer 0/1, 4-D like the bias, or `None` for all.
        window_size, min_dtype, tie_break: as in `create_mask`.

    Returns:
        A new bool mask with the broadcast shape of both, where heads repeat per group.

    >>> import torch, dmask
    >>> scores = torch.tensor([[[[1.0, 2.0, 2.0, 0.0]]]])
    >>> dmask.topk_mask(scores, None, window_size=1, tie_break="lowest")
    tensor([[[[False,  True, False, False]]]])
    """
    mask: Tensor = call(
        topk.STRATEGY.op, attention_bias, attention_mask, window_size, min_dtype, tie_break
    )
    return mask


def relu_mask(
    attention_bias: Tensor, attention_mask: Tensor | None, min_dtype: float | None = None
) -> Tensor:
    """Keeps the allowed keys with a score above zero (and above the floor). NaN is above both.

    Arguments and result are those of `topk_mask`.

    >>> import torch, dmask
    >>> dmask.relu_mask(torch.tensor([[[[1.0, 0.0, -1.0]]]]), None)
    tensor([[[[ True, False, False]]]])
    """
    mask: Tensor = call(relu.STRATEGY.op, attention_bias, attention_mask, min_dtype)
    return mask


def topk_indices(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None = None,
) -> Tensor:
    """Returns the keys that `topk_mask` keeps with `tie_break="lowest"`, as indices.

    Takes the same arguments as `topk_mask`.

    Returns:
        int32 `({B|1}, {H|1}, {Lq|1}, window_size)`: the kept keys of each row in ascending order,
        padded with -1. If bias and mask have no head dimension, neither does the result: one choice
        for all heads. Sparse decode kernels read this form (`gather_kv_indices` of
        flash-sparse-attn, DeepSeek's sparse attention).

    >>> import torch, dmask
    >>> scores = torch.tensor([[[[0.1, 0.5, 0.3, 0.4]]]])
    >>> allowed = torch.tensor([[[[True, True, True, False]]]])
    >>> dmask.topk_indices(scores, allowed, window_size=2)
    tensor([[[[1, 2]]]], dtype=torch.int32)
    >>> dmask.topk_indices(scores, allowed, window_size=5)
    tensor([[[[ 0,  1,  2, -1, -1]]]], dtype=torch.int32)
    """
    indices: Tensor = call(
        _indices.TOPK_INDICES, attention_bias, attention_mask, window_size, min_dtype
    )
    return indices


def block_smooth(mask: Tensor, block_size: int, attention_mask: Tensor | None = None) -> Tensor:
    """Smooths a finished mask along its keys: keeps or drops whole blocks of keys.

    A block is kept if more than half of its keys are kept. The last block may be shorter. Forbidden
    keys are then removed, so that smoothing never adds any.

    Args:
        mask: bool `({B|1}, {H|1}, {Lq|1}, Lk)`.
        block_size: number of keys per block.
        attention_mask: the allowed keys, 4-D, or `None` for all.

    Returns:
        A new bool mask with the broadcast shape of both.

    >>> import torch, dmask
    >>> dmask.block_smooth(torch.tensor([[[[True, True, False, True, False]]]]), block_size=3)
    tensor([[[[ True,  True,  True, False, False]]]])
    """
    smooth: Tensor = call(BLOCK_SMOOTH, mask, block_size, attention_mask)
    return smooth


def mask_from_indices(
    indices: Tensor,
    key_len: int,
    *,
    block_size: int = 1,
    attention_mask: Tensor | None = None,
    fill: float | None = None,
    dtype: torch.dtype | None = None,
    out_of_range: str = "error",
) -> Tensor:
    """Returns the mask of the given keys or blocks of keys: the inverse of `to_indices`.

    Args:
        indices: int32 or int64 `({B|1}, {H|1}, {Lq|1}, K)`, in any order, or `({B|1}, {Lq|1}, K)`
            for one choice for all heads. Negative indices are ignored.
        key_len: `Lk`.
        block_size: number of keys per index. If greater than 1, the indices are those of blocks;
            the last block may be shorter.
        attention_mask: a mask to combine with, with as many dimensions as `indices`: bool, integer
            0/1, or additive (floating point).
        fill: if given, the result is additive: 0, or the additive mask, at the given keys, and this
            number elsewhere; `-inf`, for example.
        dtype: the floating-point dtype of an additive result. Default: that of an additive mask,
            otherwise the default dtype of PyTorch.
        out_of_range: what to do with an index past the end: `"error"`, or `"ignore"` it.

    Returns:
        A new mask with the broadcast shape of both (without a head dimension for 3-D indices). It
        is bool, unless there is an additive mask or a `fill`. Without a `fill`, the smallest finite
        value is where an additive mask is not kept. Gradients flow to an additive mask.

    Raises:
        TypeError: for indices that are not int32 or int64, a complex mask, or a `dtype` that is not
            floating point.
        ValueError: for mismatched shapes, `block_size` below 1, an unknown `out_of_range`, a
            `dtype` for a bool result, or an index out of range. On a GPU, an index out of range
            fails later, with an assertion.

    >>> import torch, dmask
    >>> dmask.mask_from_indices(torch.tensor([[[[2, 0, -1]]]]), key_len=4)
    tensor([[[[ True, False,  True, False]]]])
    >>> dmask.mask_from_indices(torch.tensor([[[[1, -1]]]]), key_len=3, block_size=2)
    tensor([[[[False, False,  True]]]])
    >>> dmask.mask_from_indices(torch.tensor([[[2, 7]]]), 3, fill=-torch.inf, out_of_range="ignore")
    tensor([[[-inf, -inf, 0.]]])
    """
    indices, key_len, block_size, attention_mask, fill, out_of_range = arguments.check_types(
        "Tensor indices, SymInt key_len, SymInt block_size, Tensor? attention_mask, float? fill, "
        "str out_of_range",
        (indices, key_len, block_size, attention_mask, fill, out_of_range),
    )
    additive = attention_mask is not None and attention_mask.dtype.is_floating_point
    if dtype is not None:
        arguments.check_float_dtype("dtype", dtype)
        if fill is None and not additive:
            raise ValueError(f"dtype={dtype} needs a fill or an additive mask: the result is bool")
    heads = 1
    if attention_mask is not None:
        given, named_by = validation.meta(attention_mask), validation.meta(indices)
        heads = _indices.check_composed(given, named_by, key_len, block_size)[1]
    named: Tensor = call(_indices.MASK_FROM_INDICES, indices, key_len, block_size, out_of_range)
    if attention_mask is not None and indices.dim() == 4:
        named = shapes.repeat_heads(named, heads)
        attention_mask = shapes.repeat_heads(attention_mask, heads)
    if attention_mask is not None and not additive:
        named = named & to_bool(attention_mask)
    if not additive and fill is None:
        return named
    scores = attention_mask if additive else None
    if dtype is None:
        dtype = torch.get_default_dtype() if scores is None else scores.dtype
    kept = named.new_zeros((), dtype=dtype) if scores is None else scores.to(dtype)
    return torch.where(named, kept, torch.finfo(dtype).min if fill is None else fill + 0.0)
