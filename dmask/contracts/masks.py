"""Integer masks converted to bool: the op `as_bool`, which checks the values when it runs."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask import validation
from dmask.contracts.dispatch import Kernel, call
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import TensorMeta

_as_bool = Kernel("masks.as_bool")


def _plan(mask: TensorMeta) -> Plan:
    validation.check_mask_dtype(mask)
    return Plan(mask._replace(dtype=torch.bool), _as_bool.choose(mask.device, mask.dtype))


AS_BOOL = OpSpec("as_bool(Tensor attention_mask) -> Tensor", _plan)


def to_bool(mask: Tensor) -> Tensor:
    """Converts a mask to bool, for public functions that use it in plain operations."""
    if mask.dtype is torch.bool:
        return mask
    converted: Tensor = call(AS_BOOL, mask)
    return converted
