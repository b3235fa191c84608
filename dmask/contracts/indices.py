"""Keys as indices: the ops `topk_indices`, `kept_indices` and `mask_from_indices`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.select import SELECTED, read_selection
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import Shape, TensorMeta

OUT_OF_RANGE = ("error", "ignore")

_topk_indices = Kernel("indices.topk_indices", "cpu", "triton")
_kept_indices = Kernel("indices.kept_indices", "cpu", "triton")
_mask_of = Kernel("indices.mask_of", "cpu", "triton")


def _plan_topk(
    bias: TensorMeta, mask: TensorMeta | None, window_size: int, min_dtype: float | None
) -> Plan:
    if len(bias.shape) == 3:
        check_same_dims("attention_bias", bias, "attention_mask", mask)
        return _without_heads(_plan_topk, bias, mask, window_size, min_dtype)
    validation.check_bias(bias)
    validation.check_mask_4d(mask, bias)
    floor = validation.check_call(bias.dtype, window_size, min_dtype)
    shape = validation.mask_shape(bias, mask)
    kernel = _topk_indices.choose(bias.device, bias.dtype)

    def run(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
        bias, allowed = shapes.align(attention_bias, attention_mask, shape)
        indices: Tensor = kernel(bias, allowed, window_size, floor)
        return indices

    return Plan(TensorMeta((*shape[:3], window_size), torch.int32, bias.device), run)


def _plan_kept(bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta, *others: Any) -> Plan:
    *selected, width = others
    checked = read_selection(bias, threshold, cutoff, *selected)
    validation.check_not_negative("window_size", width)
    kernel = _kept_indices.choose(bias.device, bias.dtype)

    def run(
        bias: Tensor, threshold: Tensor, cutoff: Tensor, *restrictions: Tensor | None
    ) -> Tensor:
        inputs = checked.inputs(bias, *restrictions)
        indices: Tensor = kernel(inputs, threshold, cutoff, width)
        return indices

    return Plan(TensorMeta((*threshold.shape, width), torch.int32, bias.device), run)


def check_same_dims(name: str, tensor: TensorMeta, other: str, mask: TensorMeta | None) -> None:
    if mask is not None and len(mask.shape) != len(tensor.shape):
        raise ValueError(
            f"{other} must have {len(tensor.shape)} dimensions, as {name}, "
            f"got shape {tuple(mask.shape)}"
        )


def _without_heads(plan: Callable[..., Plan], *args: Any) -> Plan:
    """Plans a call whose tensors `[B, Lq, ...]` have no dimension of heads."""
    with_head = plan(*[add_head(arg) if isinstance(arg, TensorMeta) else arg for arg in args])
    result: Any = with_head.result
    batch, _, *rest = result.shape

    def run(*tensors: Tensor | None) -> Tensor:
        found: Tensor = with_head.run(*[None if t is None else t.unsqueeze(1) for t in tensors])
        return found.squeeze(1)

    return Plan(result._replace(shape=(batch, *rest)), run)


def add_head(tensor: TensorMeta) -> TensorMeta:
    batch, *rest = tensor.shape
    return tensor._replace(shape=(batch, 1, *rest))


def _check_indices(indices: TensorMeta, key_len: int, block_size: int) -> None:
    if indices.dtype not in validation.INDEX_DTYPES:
        raise TypeError(f"indices must be int32 or int64, got {indices.dtype}")
    if len(indices.shape) != 4:
        raise ValueError(
            "indices must be 4-D ({B|1}, {H|1}, {Lq|1}, K) or 3-D without heads, "
            f"got shape {tuple(indices.shape)}"
        )
    validation.check_not_negative("key_len", key_len)
    validation.check_positive("block_size", block_size)


def check_composed(mask: TensorMeta, indices: TensorMeta, key_len: int, block_size: int) -> Shape:
    """Checks a mask to combine with a mask made from indices. Returns their broadcast shape."""
    if len(indices.shape) == 3:
        check_same_dims("indices", indices, "attention_mask", mask)
        mask, indices = add_head(mask), add_head(indices)
    _check_indices(indices, key_len, block_size)
    named = indices._replace(shape=(*indices.shape[:3], key_len))
    if not mask.dtype.is_floating_point:
        validation.check_mask_dtype(mask)
    validation.check_device(mask, named, "indices")
    if len(mask.shape) != 4:
        raise ValueError(
            f"attention_mask must be 4-D {validation.SHAPE_4D}, got shape {tuple(mask.shape)}"
        )
    return validation.mask_shape(named, mask, name="indices (as a mask)")


def _plan_mask(indices: TensorMeta, key_len: int, block_size: int, out_of_range: str) -> Plan:
    if len(indices.shape) == 3:
        return _without_heads(_plan_mask, indices, key_len, block_size, out_of_range)
    _check_indices(indices, key_len, block_size)
    if out_of_range not in OUT_OF_RANGE:
        raise validation.unknown("out_of_range", out_of_range, OUT_OF_RANGE)
    kernel = _mask_of.choose(indices.device, None)
    result = TensorMeta((*indices.shape[:3], key_len), torch.bool, indices.device)
    strict = out_of_range == "error"
    return Plan(result, partial(kernel, key_len=key_len, block_size=block_size, strict=strict))


TOPK_INDICES = OpSpec(
    "topk_indices(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, "
    "float? min_dtype=None) -> Tensor",
    _plan_topk,
)
KEPT_INDICES = OpSpec(f"kept_indices({SELECTED}, SymInt window_size) -> Tensor", _plan_kept)
MASK_FROM_INDICES = OpSpec(
    "mask_from_indices(Tensor indices, SymInt key_len, SymInt block_size=1, "
    'str out_of_range="error") -> Tensor',
    _plan_mask,
)
