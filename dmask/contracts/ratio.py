"""The best fraction of each row's keys: the strategy `"ratio"` and its op `ratio_mask`."""

from __future__ import annotations

from functools import partial

from dmask import validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.strategy import MaskFunction, Strategy
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("ratio.ratio_mask", "triton")


def _choose(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int | None,
    min_dtype: float | None,
    ratio: float,
) -> MaskFunction:
    validation.check_share("ratio", ratio)
    kernel = KERNEL.choose(bias.device, bias.dtype)
    return partial(kernel, floor=floor, ratio=ratio, window_size=window_size)


STRATEGY = Strategy(
    "ratio",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, "
    "float? min_dtype=None, *, float ratio=0.25) -> Tensor",
    _choose,
)
