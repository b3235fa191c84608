"""Top blocks of keys by pooled score: the strategy `"block_topk"` and its op `block_topk_mask`."""

from __future__ import annotations

from functools import partial

from dmask import validation
from dmask.contracts.dispatch import Kernel
from dmask.contracts.strategy import MaskFunction, Strategy
from dmask.kernels.reference.block_topk import POOLS
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("block_topk.block_topk_mask", "triton")


def _choose(
    bias: TensorMeta,
    shape: Shape,
    floor: float,
    *,
    window_size: int,
    min_dtype: float | None,
    key_block: int,
    pool: str,
) -> MaskFunction:
    validation.check_positive("key_block", key_block)
    if pool not in POOLS:
        raise validation.unknown("pool", pool, POOLS)
    return partial(
        KERNEL.choose(bias.device, bias.dtype),
        floor=floor,
        window_size=window_size,
        key_block=key_block,
        pool=pool,
        query_len=shape[2],
    )


STRATEGY = Strategy(
    "block_topk",
    "(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, "
    'int key_block=64, str pool="max") -> Tensor',
    _choose,
    by_position=True,  # a row keeps the block at its position
)
