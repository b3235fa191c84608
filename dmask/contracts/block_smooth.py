"""Smoothing of a finished mask by whole blocks of keys: the op `block_smooth`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("block_smooth.block_smooth", "triton")


def _check(mask: TensorMeta, allowed: TensorMeta | None, block_size: int) -> Shape:
    """Checks a call and returns the shape of its result."""
    if mask.dtype is not torch.bool:
        raise TypeError(f"mask must be bool (True = kept), got {mask.dtype}")
    if len(mask.shape) != 4:
        raise ValueError(
            f"mask must be 4-D ({{B|1}}, {{H|1}}, {{Lq|1}}, Lk), got shape {tuple(mask.shape)}"
        )
    validation.check_positive("block_size", block_size)
    validation.check_mask_4d(allowed, mask, "mask")
    return validation.mask_shape(mask, allowed, name="mask")


def _plan(mask: TensorMeta, block_size: int, allowed: TensorMeta | None) -> Plan:
    shape = _check(mask, allowed, block_size)
    result = TensorMeta(shape, torch.bool, mask.device)
    return Plan(result, partial(_run, block_size=block_size, shape=shape))


def _run(mask: Tensor, allowed: Tensor | None, *, block_size: int, shape: Shape) -> Tensor:
    smooth = KERNEL.choose(mask.device, None)(mask, block_size)
    smooth, allowed = shapes.align(smooth, allowed, shape)
    return smooth if allowed is None else smooth & allowed


SPEC = OpSpec(
    "block_smooth(Tensor mask, SymInt block_size, Tensor? attention_mask=None) -> Tensor", _plan
)
