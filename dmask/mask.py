"""The mask helpers: plain Python functions, each one call of an op.

Shape legend: `B` batch, `H` query heads, `KVH` key/value heads (`H = KVH * groups`), `Lq` queries,
`Lk` keys. In every mask `True` means *may be attended*.

The helpers and their names come from flash-sparse-attn (`utils/mask.py`), where integrations call
them in place of a top-k and a scatter of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dmask import arguments, shapes, validation
from dmask.compat import known
from dmask.contracts import block_smooth as _block_smooth
from dmask.contracts import create_mask as _create_mask
from dmask.contracts import indices as _indices
from dmask.contracts import relu, topk
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
    """Makes a mask if there are more keys than the window, and returns the given one otherwise.

    The arguments are those of `create_mask`.

    Returns:
        `attention_mask` itself, whatever it is, if `window_size is None` or
        `key_len <= window_size`; the result of `create_mask` otherwise.

    A compiled model traces this branch: it recompiles once when a growing `key_len` crosses
    `window_size`. `create_mask` has no such branch.

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
    """Makes the mask of the keys that each query may attend to.

    Args:
        attention_bias: scores, floating, `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`.
        attention_mask: the allowed keys, bool or integer 0/1, or `None` for all. 4-D as the bias,
            or `(B, S)`: with `S == key_len` it covers all keys, with `S == query_len < key_len` the
            new queries after a cache, which may be attended.
        batch_size, query_len, key_len: `B`, `Lq`, `Lk`.
        window_size: how many keys a row keeps at most. More than `key_len` keeps all allowed keys.
        min_dtype: the floor, the score of forbidden keys. No key at or under it is kept. Default:
            the smallest finite value of the bias dtype.
        block_size: smooths the finished mask, see `block_smooth`.
        type: the strategy, one of `strategies()`. `"topk"` keeps the `window_size` best keys,
            `"relu"` those with a score above zero (it uses no window), `"topp"` the smallest
            set of top keys whose softmax mass reaches the option `p`, `"ratio"` the best `ratio` of
            the allowed keys, `"block_topk"` the best blocks of `key_block` keys by the `"max"` or
            `"mean"` (option `pool`) of their scores, and always the block at the row's position
            (its mask has a row per query).
        tie_break: which of equal scores at the last place `"topk"` keeps. `"torch"`: those that
            `torch.topk(..., sorted=False)` takes, bit for bit. `"lowest"`: those with the lowest
            key index, which makes the result of a row depend on that row alone. Other strategies
            that rank keys use the lowest index.
        options: the options of the strategy `type`, by name: `{"p": 0.9}`.

    Returns:
        A new bool mask. Its shape is the broadcast shape of bias and mask, where head counts repeat
        per group, with a last dimension of `key_len`. It never requires grad.

    Raises:
        TypeError: for a bias that is not floating, a float mask, an argument of another type.
        ValueError: for shapes that do not fit, tensors on two devices, sizes below 1, a floor that
            the dtype cannot hold, an integer mask with other values than 0 and 1, an unknown
            `type`, `tie_break` or option.

    >>> import torch, dmask
    >>> bias = torch.tensor([0.3, 0.1, 0.2, 0.4]).view(1, 1, 1, 4)
    >>> padding = torch.tensor([[True, True, True, False]])
    >>> dmask.create_mask(bias, padding, batch_size=1, query_len=1, key_len=4, window_size=2)
    tensor([[[[ True, False,  True, False]]]])
    """
    mask: Tensor = call(
        _create_mask.SPEC,
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
    """Makes a top-k mask with a mask that is 4-D already. The same as `topk_mask`.

    Integrations that use flash-sparse-attn's helpers call it by this name.

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
    """Keeps the `window_size` best keys of each row, less those at or under the floor.

    Args:
        attention_bias: scores, floating, `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`.
        attention_mask: the allowed keys, bool or integer 0/1, 4-D as the bias, or `None` for all.
        window_size, min_dtype, tie_break: as in `create_mask`.

    Returns:
        A new bool mask of the broadcast shape of both, where head counts repeat per group.

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

    Args and result as in `topk_mask`.

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

    Args as in `topk_mask`.

    Returns:
        int32 `({B|1}, {H|1}, {Lq|1}, window_size)`: the kept keys of each row, ascending, then -1.
        Sparse decode kernels read this form (`gather_kv_indices` of flash-sparse-attn, DeepSeek's
        sparse attention).

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
    """Smooths a finished mask along its keys: keeps or drops blocks of keys whole.

    A block is kept if more than half of it is; the last one may be short. Forbidden keys are then
    removed again: smoothing lets none through.

    Args:
        mask: bool `({B|1}, {H|1}, {Lq|1}, Lk)`.
        block_size: keys per block.
        attention_mask: the allowed keys, 4-D, or `None` for all.

    Returns:
        A new bool mask of the broadcast shape of both.

    >>> import torch, dmask
    >>> dmask.block_smooth(torch.tensor([[[[True, True, False, True, False]]]]), block_size=3)
    tensor([[[[ True,  True,  True, False, False]]]])
    """
    smooth: Tensor = call(_block_smooth.SPEC, mask, block_size, attention_mask)
    return smooth


def mask_from_indices(
    indices: Tensor,
    key_len: int,
    *,
    block_size: int = 1,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Returns the mask of the keys, or blocks of keys, that indices name: undoes `to_indices`.

    Args:
        indices: int32 or int64 `({B|1}, {H|1}, {Lq|1}, K)`, in any order. Negative ones name none.
        key_len: `Lk`.
        block_size: keys per index. 1: indices of keys; more: of blocks, the last may be short.
        attention_mask: a mask to compose with, 4-D: bool, integer 0/1, or additive (floating).

    Returns:
        A new mask of the broadcast shape of both, bool. With an additive mask, one of its dtype:
        that mask where a key is named, the smallest finite value elsewhere, with gradients to it.

    Raises:
        TypeError: for indices that are not int32 or int64, a complex mask.
        ValueError: for shapes that do not fit, `block_size` below 1, an index past the end. A GPU
            fails later, with an assertion.

    >>> import torch, dmask
    >>> dmask.mask_from_indices(torch.tensor([[[[2, 0, -1]]]]), key_len=4)
    tensor([[[[ True, False,  True, False]]]])
    >>> dmask.mask_from_indices(torch.tensor([[[[1, -1]]]]), key_len=3, block_size=2)
    tensor([[[[False, False,  True]]]])
    """
    indices, key_len, block_size, attention_mask = arguments.check_types(
        "Tensor indices, SymInt key_len, SymInt block_size, Tensor? attention_mask",
        (indices, key_len, block_size, attention_mask),
    )
    if attention_mask is None:
        named: Tensor = call(_indices.MASK_FROM_INDICES, indices, key_len, block_size)
        return named
    given, named_by = validation.meta(attention_mask), validation.meta(indices)
    shape = _indices.check_composed(given, named_by, key_len, block_size)
    named = call(_indices.MASK_FROM_INDICES, indices, key_len, block_size)
    named = shapes.repeat_heads(named, shape[1])
    if attention_mask.dtype.is_floating_point:
        additive = shapes.repeat_heads(attention_mask, shape[1])
        return torch.where(named, additive, torch.finfo(additive.dtype).min)
    return named & shapes.repeat_heads(to_bool(attention_mask), shape[1])
