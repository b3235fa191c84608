"""The smallest set of keys with a given softmax mass: the strategy `"topp"`, op `topp_mask`."""

from __future__ import annotations

from functools import partial

from dmask import validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.strategy import MaskFunction, Strategy
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("topp.topp_mask", "triton")


def _choose(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int | None,
    min_dtype: float | None,
    p: float,
) -> MaskFunction:
    validation.check_share("p", p)
    kernel = KERNEL.choose(bias.device, bias.dtype)
    return partial(kernel, floor=floor, p=p, window_size=window_size)


STRATEGY = Strategy(
    "topp",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, "
    "float? min_dtype=None, *, float p=0.9) -> Tensor",
    _choose,
)
