"""The ops `torch.ops.dmask.*`, registered at import and before any trace.

Each op stands here with its schema, kernel and fake; `OPS` at the end lists them all. The ops of
strategies come out of `registry.add`. Kernel and fake share one check, so that a call fails the
same way eager and compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dmask import inductor, library, registry, selection_ops, shapes, validation
from dmask.kernels import cpu, reference, strategies
from dmask.registry import MaskMaker, Plan
from dmask.validation import Shape, TensorMeta, meta, optional_meta

_LIBRARY = library.fragment()

# ------------------------------------------------------------------ built-in strategies


def _topk_kernel(bias: TensorMeta) -> Callable[..., Tensor]:
    """The quickest way to a top-k mask for a bias of that kind."""
    return cpu.topk_mask if cpu.takes(bias.device, bias.dtype) else reference.topk_mask


def _plan_topk(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int,
    min_dtype: float | None,
    tie_break: str,
) -> MaskMaker:
    inductor.offer(torch.ops.dmask.topk_mask.default)
    topk_mask = _topk_kernel(bias)
    # Fakes plan too, and must not compare a symbolic size: a guard would come of it.
    sized = all(isinstance(size, int) for size in shape)
    if tie_break == "torch" and sized and math.prod(shape) <= cpu.FEW_SCORES:
        topk_mask = reference.topk_mask

    def run(bias: Tensor, allowed: Tensor | None) -> Tensor:
        return topk_mask(bias, allowed, window_size, floor, tie_break)

    return run


def _plan_relu(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    min_dtype: float | None,
) -> MaskMaker:
    return partial(strategies.relu_mask, floor=floor)


def _plan_topp(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int | None,
    min_dtype: float | None,
    p: float,
) -> MaskMaker:
    validation.check_share("p", p)
    return partial(strategies.topp_mask, floor=floor, p=p, window_size=window_size)


def _plan_ratio(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int | None,
    min_dtype: float | None,
    ratio: float,
) -> MaskMaker:
    validation.check_share("ratio", ratio)
    return partial(strategies.ratio_mask, floor=floor, ratio=ratio, window_size=window_size)


def _plan_block_topk(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int,
    min_dtype: float | None,
    key_block: int,
    pool: str,
) -> MaskMaker:
    validation.check_positive("key_block", key_block)
    if pool not in strategies.POOLS:
        raise validation.unknown("pool", pool, strategies.POOLS)
    return partial(
        strategies.block_topk_mask,
        floor=floor,
        window_size=window_size,
        key_block=key_block,
        pool=pool,
    )


# ------------------------------------------------------------------ create_mask


def _check_create_mask(
    bias: TensorMeta,
    mask: TensorMeta | None,
    batch_size: int,
    query_len: int,
    key_len: int,
    window_size: int | None,
    min_dtype: float | None = None,
    block_size: int | None = None,
    type: str = "topk",
    tie_break: str = "torch",
    options: str = "",
) -> Plan:
    strategy = registry.get_strategy(type)
    validation.check_bias(bias)
    validation.check_sizes(bias, mask, (batch_size, query_len, key_len))
    floor = validation.check_call(bias.dtype, window_size, min_dtype, tie_break)
    if block_size is not None:
        validation.check_positive("block_size", block_size)
    call = {"window_size": window_size, "min_dtype": min_dtype, "tie_break": tie_break}
    arguments = strategy.arguments(call, options)
    plan = strategy.plan(bias, mask, floor, arguments, key_len)
    if block_size is None or block_size == 1:
        return plan
    return plan._replace(run=partial(_smoothed, plan, floor, block_size))


def _smoothed(
    plan: Plan,
    floor: float,
    block_size: int,
    attention_bias: Tensor,
    attention_mask: Tensor | None,
) -> Tensor:
    """Smooths the mask of a plan, and removes again what smoothing let through."""
    smooth = reference.block_smooth(plan.run(attention_bias, attention_mask), block_size)
    bias, allowed = shapes.align(attention_bias, attention_mask, plan.shape)
    return smooth & reference.eligible_keys(bias, allowed, floor)


_plan_create_mask = registry.cached_plan(_check_create_mask)


def create_mask(
    attention_bias: Tensor, attention_mask: Tensor | None, *args: Any, **kwargs: Any
) -> Tensor:
    bias, mask = meta(attention_bias), optional_meta(attention_mask)
    plan = _plan_create_mask(bias, mask, *args, **kwargs)
    return plan.run(attention_bias, attention_mask)


def _create_mask_fake(
    attention_bias: Tensor, attention_mask: Tensor | None, *args: Any, **kwargs: Any
) -> Tensor:
    bias, mask = meta(attention_bias), optional_meta(attention_mask)
    plan = _check_create_mask(bias, mask, *args, **kwargs)
    inductor.offer(torch.ops.dmask.create_mask.default)
    return attention_bias.new_empty(plan.shape, dtype=torch.bool)


# ------------------------------------------------------------------ topk_indices


def _check_topk_indices(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None = None,
) -> tuple[Shape, float]:
    bias, mask = meta(attention_bias), optional_meta(attention_mask)
    validation.check_bias(bias)
    validation.check_mask_4d(mask, bias)
    floor = validation.check_call(bias.dtype, window_size, min_dtype)
    return validation.mask_shape(bias, mask), floor


def _topk_indices(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None = None,
) -> Tensor:
    shape, floor = _check_topk_indices(attention_bias, attention_mask, window_size, min_dtype)
    bias, allowed = shapes.align(attention_bias, attention_mask, shape)
    kept = _topk_kernel(meta(bias))(bias, allowed, window_size, floor, "lowest")
    return reference.indices_of(kept, window_size)


def _topk_indices_fake(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None = None,
) -> Tensor:
    shape, _ = _check_topk_indices(attention_bias, attention_mask, window_size, min_dtype)
    return attention_bias.new_empty((*shape[:3], window_size), dtype=torch.int32)


# ------------------------------------------------------------------ block_smooth


def _check_block_smooth(mask: Tensor, block_size: int, attention_mask: Tensor | None) -> Shape:
    return validation.check_block_smooth(meta(mask), optional_meta(attention_mask), block_size)


def _block_smooth(mask: Tensor, block_size: int, attention_mask: Tensor | None = None) -> Tensor:
    shape = _check_block_smooth(mask, block_size, attention_mask)
    smooth = reference.block_smooth(mask, block_size)
    smooth, allowed = shapes.align(smooth, attention_mask, shape)
    return smooth if allowed is None else smooth & allowed


def _block_smooth_fake(
    mask: Tensor, block_size: int, attention_mask: Tensor | None = None
) -> Tensor:
    return mask.new_empty(_check_block_smooth(mask, block_size, attention_mask))


# ------------------------------------------------------------------ the table of all ops

library.define(
    _LIBRARY,
    "create_mask(Tensor attention_bias, Tensor? attention_mask, SymInt batch_size, "
    "SymInt query_len, SymInt key_len, SymInt? window_size, float? min_dtype=None, "
    'SymInt? block_size=None, str type="topk", str tie_break="torch", str options="") -> Tensor',
    kernel=create_mask,
    fake=_create_mask_fake,
)
library.define(
    _LIBRARY,
    "topk_indices(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, "
    "float? min_dtype=None) -> Tensor",
    kernel=_topk_indices,
    fake=_topk_indices_fake,
)
library.define(
    _LIBRARY,
    "block_smooth(Tensor mask, SymInt block_size, Tensor? attention_mask=None) -> Tensor",
    kernel=_block_smooth,
    fake=_block_smooth_fake,
)
OPS = ("block_smooth", "create_mask", "topk_indices", *selection_ops.OPS)

registry.add(
    "topk",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, "
    'str tie_break="torch") -> Tensor',
    _plan_topk,
    builtin=True,
)
registry.add(
    "relu",
    "(Tensor attention_bias, Tensor? attention_mask, float? min_dtype=None) -> Tensor",
    _plan_relu,
    builtin=True,
)
registry.add(
    "topp",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, "
    "float? min_dtype=None, *, float p=0.9) -> Tensor",
    _plan_topp,
    builtin=True,
)
registry.add(
    "ratio",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, "
    "float? min_dtype=None, *, float ratio=0.25) -> Tensor",
    _plan_ratio,
    builtin=True,
)
registry.add(
    "block_topk",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, "
    'int key_block=64, str pool="max") -> Tensor',
    _plan_block_topk,
    builtin=True,
)


def op_names() -> tuple[str, ...]:
    """The names of all ops, those of registered strategies included, sorted.

    >>> import dmask.ops
    >>> "create_mask" in dmask.ops.op_names() and "topk_mask" in dmask.ops.op_names()
    True
    """
    return tuple(sorted([*OPS, *(f"{name}_mask" for name in registry.strategies())]))
