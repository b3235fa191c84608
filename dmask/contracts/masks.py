"""`as_bool`: an integer mask as a bool one. Its values are checked when the op runs."""

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
    """Returns a mask as bool, for public functions that compute with it themselves."""
    if mask.dtype is torch.bool:
        return mask
    converted: Tensor = call(AS_BOOL, mask)
    return converted
