"""Counts of kept keys per tile: the op `kept_blocks`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmask import validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.select import SELECTED, read_selection
from dmask.contracts.spec import OpSpec, Plan
from dmask.validation import TensorMeta

KERNEL = Kernel("blocks.kept_blocks", "triton")


def _plan(bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta, *others: Any) -> Plan:
    *selected, query_block, key_block = others
    checked = read_selection(bias, threshold, cutoff, *selected)
    validation.check_positive("query_block", query_block)
    validation.check_positive("key_block", key_block)
    _, _, query_len, key_len = checked.shape
    blocks = -(-query_len // query_block), -(-key_len // key_block)
    kernel = KERNEL.choose(bias.device, bias.dtype)

    def run(
        bias: Tensor, threshold: Tensor, cutoff: Tensor, mask: Tensor | None, lengths: Tensor | None
    ) -> Tensor:
        inputs = checked.inputs(bias, mask, lengths)
        counts: Tensor = kernel(inputs, threshold, cutoff, (query_block, key_block))
        return counts

    return Plan(TensorMeta((*threshold.shape[:2], *blocks), torch.int32, bias.device), run)


SPEC = OpSpec(f"kept_blocks({SELECTED}, SymInt query_block, SymInt key_block) -> Tensor", _plan)
