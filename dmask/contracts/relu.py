"""Keys with a score above zero: the strategy `"relu"` and its op `relu_mask`."""

from __future__ import annotations

from functools import partial

from dmask.contracts.dispatch import Kernel
from dmask.contracts.strategy import MaskFunction, Strategy
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("relu.relu_mask", "triton")


def _choose(
    bias: TensorMeta, shape: Shape, floor: float, *, min_dtype: float | None
) -> MaskFunction:
    return partial(KERNEL.choose(bias.device, bias.dtype), floor=floor)


STRATEGY = Strategy(
    "relu",
    "(Tensor attention_bias, Tensor? attention_mask, float? min_dtype=None) -> Tensor",
    _choose,
)
