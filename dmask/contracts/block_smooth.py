"""Blocks of a finished mask kept or dropped whole: the op `block_smooth`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("block_smooth.block_smooth")


def _plan(mask: TensorMeta, block_size: int, allowed: TensorMeta | None) -> Plan:
    shape = validation.check_block_smooth(mask, allowed, block_size)
    result = TensorMeta(shape, torch.bool, mask.device)
    return Plan(result, partial(_run, block_size=block_size, shape=shape))


def _run(mask: Tensor, allowed: Tensor | None, *, block_size: int, shape: Shape) -> Tensor:
    smooth = KERNEL.choose(mask.device, mask.dtype)(mask, block_size)
    smooth, allowed = shapes.align(smooth, allowed, shape)
    return smooth if allowed is None else smooth & allowed


SPEC = OpSpec(
    "block_smooth(Tensor mask, SymInt block_size, Tensor? attention_mask=None) -> Tensor", _plan
)
