"""Top-k: the strategy `"topk"` and its op `topk_mask`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.strategy import MaskFunction, Strategy
from dmask.kernels.reference import topk as reference
from dmask.kernels.reference.masks import as_bool_later
from dmask.kernels.reference.ranking import ranked_dtype
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("topk.topk_mask", "cpu", "triton")


def _choose(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int,
    min_dtype: float | None,
    tie_break: str,
) -> MaskFunction:
    limit: float | Tensor = floor
    scores = math.prod(shape)
    # With tie_break="lowest" the reference sorts, which is never faster. Comparing a symbolic
    # number would add a guard.
    few_pay = tie_break == "torch" and isinstance(scores, int)
    topk_mask = KERNEL.choose(bias.device, bias.dtype, scores if few_pay else None)
    if topk_mask is KERNEL.reference and few_pay and bias.device.type == "cpu":
        # PyTorch converts a number to a tensor for every comparison, which takes longer than the
        # rest.
        limit = torch.tensor(floor, dtype=ranked_dtype(bias.dtype), device="cpu")
    return partial(topk_mask, window_size=window_size, floor=limit, tie_break=tie_break)


def small_topk_mask(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    window_size: int,
    min_dtype: float | None,
    key_len: int | None = None,
    **others: Any,
) -> Tensor:
    """Computes the result of the op with plain operations, for arguments that are checked."""
    if attention_mask is not None and attention_mask.dtype is not torch.bool:
        attention_mask = as_bool_later(attention_mask)
    bias, mask = validation.meta(attention_bias), validation.optional_meta(attention_mask)
    shape = validation.mask_shape(bias, mask, key_len)
    floor = validation.check_call(bias.dtype, window_size, min_dtype)
    aligned = shapes.align(attention_bias, attention_mask, shape)
    return reference.topk_mask(*aligned, window_size, floor, "torch")


STRATEGY = Strategy(
    "topk",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, "
    'str tie_break="torch") -> Tensor',
    _choose,
    small=small_topk_mask,
)
