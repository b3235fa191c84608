"""A selection as a dense mask: the op `kept_mask`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmask.contracts.dispatch import Kernel
from dmask.contracts.select import SELECTED, read_selection
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import TensorMeta

KERNEL = Kernel("dense.kept_mask", "cpu", "triton")


def _plan(bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta, *selected: Any) -> Plan:
    checked = read_selection(bias, threshold, cutoff, *selected)
    kernel = KERNEL.choose(bias.device, bias.dtype)

    def run(
        bias: Tensor, threshold: Tensor, cutoff: Tensor, *restrictions: Tensor | None
    ) -> Tensor:
        kept: Tensor = kernel(checked.inputs(bias, *restrictions), threshold, cutoff)
        return kept

    shape = *threshold.shape, checked.positions.key_len
    return Plan(TensorMeta(shape, torch.bool, bias.device), run)


SPEC = OpSpec(f"kept_mask({SELECTED}) -> Tensor", _plan)
