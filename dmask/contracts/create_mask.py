"""Masks by any strategy, from 2-D or 4-D masks: the op `create_mask`."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from dmask import registry, shapes, validation
from dmask.contracts import block_smooth
from dmask.contracts.spec import OpSpec, Plan
from dmask.contracts.strategy import MaskFunction, plan_mask
from dmask.contracts.topk import small_topk_mask
from dmask.kernels.reference.ranking import eligible_keys
from dmask.validation import Shape, TensorMeta


def _plan(
    bias: TensorMeta,
    mask: TensorMeta | None,
    batch_size: int,
    query_len: int,
    key_len: int,
    window_size: int | None,
    min_dtype: float | None,
    block_size: int | None,
    type: str,
    tie_break: str,
    options: str,
) -> Plan:
    strategy = registry.get_strategy(type)
    validation.check_bias(bias)
    validation.check_sizes(bias, mask, (batch_size, query_len, key_len))
    floor = validation.check_call(bias.dtype, window_size, min_dtype, tie_break)
    if block_size is not None:
        validation.check_positive("block_size", block_size)
    call = {"window_size": window_size, "min_dtype": min_dtype, "tie_break": tie_break}
    own = registry.decode_options(strategy, options) if options else {}
    arguments = strategy.arguments(call, own)
    shape = validation.mask_shape(bias, mask, key_len)
    if strategy.by_position:
        shape = (shape[0], shape[1], query_len, key_len)
    plan = plan_mask(strategy, bias, mask, shape, floor, arguments)
    if block_size is None or block_size == 1:
        return plan
    return plan._replace(run=partial(_smoothed, plan.run, shape, floor, block_size))


def _smoothed(
    make: MaskFunction,
    shape: Shape,
    floor: float,
    block_size: int,
    attention_bias: Tensor,
    attention_mask: Tensor | None,
) -> Tensor:
    """Smooths a mask, then removes the forbidden keys that smoothing added."""
    kept = make(attention_bias, attention_mask)
    smooth: Tensor = block_smooth.KERNEL.choose(kept.device, None)(kept, block_size)
    bias, allowed = shapes.align(attention_bias, attention_mask, shape)
    return smooth & eligible_keys(bias, allowed, floor)


SPEC = OpSpec(
    "create_mask(Tensor attention_bias, Tensor? attention_mask, SymInt batch_size, "
    "SymInt query_len, SymInt key_len, SymInt? window_size, float? min_dtype=None, "
    'SymInt? block_size=None, str type="topk", str tie_break="torch", str options="") -> Tensor',
    _plan,
    small=small_topk_mask,
)
