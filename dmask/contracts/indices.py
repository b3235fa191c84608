"""Keys as indices: the ops `topk_indices`, `kept_indices` and `mask_from_indices`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.select import SELECTED, read_selection
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import Shape, TensorMeta

_topk_indices = Kernel("indices.topk_indices", "cpu", "triton")
_kept_indices = Kernel("indices.kept_indices", "triton")
_mask_of = Kernel("indices.mask_of", "triton")


def _plan_topk(
    bias: TensorMeta, mask: TensorMeta | None, window_size: int, min_dtype: float | None
) -> Plan:
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
        bias: Tensor, threshold: Tensor, cutoff: Tensor, mask: Tensor | None, lengths: Tensor | None
    ) -> Tensor:
        inputs = checked.inputs(bias, mask, lengths)
        indices: Tensor = kernel(inputs, threshold, cutoff, width)
        return indices

    return Plan(TensorMeta((*threshold.shape, width), torch.int32, bias.device), run)


def _check_indices(indices: TensorMeta, key_len: int, block_size: int) -> None:
    if indices.dtype not in validation.INDEX_DTYPES:
        raise TypeError(f"indices must be int32 or int64, got {indices.dtype}")
    if len(indices.shape) != 4:
        raise ValueError(
            f"indices must be 4-D ({{B|1}}, {{H|1}}, {{Lq|1}}, K), got shape {tuple(indices.shape)}"
        )
    validation.check_not_negative("key_len", key_len)
    validation.check_positive("block_size", block_size)


def check_composed(mask: TensorMeta, indices: TensorMeta, key_len: int, block_size: int) -> Shape:
    """Checks a mask to combine with a mask made from indices. Returns their broadcast shape."""
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


def _plan_mask(indices: TensorMeta, key_len: int, block_size: int) -> Plan:
    _check_indices(indices, key_len, block_size)
    kernel = _mask_of.choose(indices.device, None)
    result = TensorMeta((*indices.shape[:3], key_len), torch.bool, indices.device)
    return Plan(result, partial(kernel, key_len=key_len, block_size=block_size))


TOPK_INDICES = OpSpec(
    "topk_indices(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, "
    "float? min_dtype=None) -> Tensor",
    _plan_topk,
)
KEPT_INDICES = OpSpec(f"kept_indices({SELECTED}, SymInt window_size) -> Tensor", _plan_kept)
MASK_FROM_INDICES = OpSpec(
    "mask_from_indices(Tensor indices, SymInt key_len, SymInt block_size=1) -> Tensor", _plan_mask
)
