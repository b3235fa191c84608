"""The ops behind a `Selection`: `select`, what is read out of it, and the way back.

They stand here as those of `ops` do: each with its check, kernel and fake, and `OPS` at the end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmask import library, shapes, validation
from dmask.kernels import cpu, reference, selection
from dmask.kernels.selection import Positions, Rows
from dmask.validation import Shape, meta, optional_meta

_LIBRARY = library.fragment()


def rows_of(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    key_lengths: Tensor | None,
    positions: Positions,
    floor: float,
    heads: int,
) -> Rows:
    """Brings checked tensors together, for rows of `heads`."""
    shape = (attention_bias.shape[0], heads, positions.query_len, positions.key_len)
    bias, allowed = shapes.align(attention_bias, attention_mask, shape)
    bias = reference.ranked(bias)
    lengths = None if key_lengths is None else key_lengths[:, None, None, None]
    return Rows(bias, allowed, lengths, positions, floor)


# ------------------------------------------------------------------ select


def check_select(
    attention_bias: Tensor,
    window_size: int,
    attention_mask: Tensor | None = None,
    is_causal: bool = False,
    query_len: int | None = None,
    key_lengths: Tensor | None = None,
    sinks: int = 0,
    local: int = 0,
    min_dtype: float | None = None,
) -> tuple[Shape, Positions, float]:
    """Checks a call of `select`; returns the shape of its rows, what they see, and the floor."""
    bias, mask, lengths = meta(attention_bias), *map(optional_meta, (attention_mask, key_lengths))
    validation.check_bias(bias)
    floor = validation.check_call(bias.dtype, window_size, min_dtype)
    validation.check_always_kept(window_size, sinks, local)
    validation.check_key_lengths(lengths, bias)
    shape, query_len = validation.selection_sizes(bias, mask, lengths, query_len)
    positions = Positions(query_len, shape[3], is_causal, sinks, local)
    queries = query_len if positions.by_row() else shape[2]
    return (shape[0], shape[1], queries, shape[3]), positions, floor


def _select(
    attention_bias: Tensor,
    window_size: int,
    attention_mask: Tensor | None = None,
    is_causal: bool = False,
    query_len: int | None = None,
    key_lengths: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    shape, positions, floor = check_select(
        attention_bias,
        window_size,
        attention_mask,
        is_causal,
        query_len,
        key_lengths,
        *args,
        **kwargs,
    )
    rows = rows_of(attention_bias, attention_mask, key_lengths, positions, floor, shape[1])
    fast = cpu.takes(rows.bias.device, rows.bias.dtype)
    choose = cpu.select if fast else selection.select
    return choose(rows, shape[:3], window_size)


def _select_fake(attention_bias: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    shape, _, _ = check_select(attention_bias, *args, **kwargs)
    dtype = attention_bias.dtype if attention_bias.dtype in reference.RANKED else torch.float32
    threshold = attention_bias.new_empty(shape[:3], dtype=dtype)
    return threshold, threshold.new_empty(shape[:3], dtype=torch.int32)


# ------------------------------------------------------------------ out of a selection


def _rows_and_bounds(
    attention_bias: Tensor,
    threshold: Tensor,
    cutoff: Tensor,
    attention_mask: Tensor | None,
    key_lengths: Tensor | None,
    query_len: int,
    is_causal: bool,
    sinks: int,
    local: int,
    floor: float,
) -> tuple[Rows, Tensor, Tensor]:
    validation.check_bounds(meta(attention_bias), meta(threshold), meta(cutoff))
    positions = Positions(query_len, attention_bias.shape[3], is_causal, sinks, local)
    heads = threshold.shape[1]
    rows = rows_of(attention_bias, attention_mask, key_lengths, positions, floor, heads)
    return rows, threshold, cutoff


def _kept_indices(attention_bias: Tensor, *args: Any) -> Tensor:
    *selected, width = args
    return selection.kept_indices(*_rows_and_bounds(attention_bias, *selected), width)


def _kept_indices_fake(attention_bias: Tensor, *args: Any) -> Tensor:
    *selected, width = args
    _, threshold, cutoff = _rows_and_bounds(attention_bias, *selected)
    return cutoff.new_empty((*threshold.shape, width))


def _kept_blocks(attention_bias: Tensor, *args: Any) -> Tensor:
    *selected, query_block, key_block = args
    rows, threshold, cutoff = _rows_and_bounds(attention_bias, *selected)
    block_size = (query_block, key_block)
    return selection.kept_blocks(rows, threshold, cutoff, block_size)


def _kept_blocks_fake(attention_bias: Tensor, *args: Any) -> Tensor:
    *selected, query_block, key_block = args
    rows, threshold, cutoff = _rows_and_bounds(attention_bias, *selected)
    query_len, key_len = rows.positions.query_len, rows.positions.key_len
    blocks = (-(-query_len // query_block), -(-key_len // key_block))
    return cutoff.new_empty((*threshold.shape[:2], *blocks))


# ------------------------------------------------------------------ mask_from_indices


def _mask_from_indices(indices: Tensor, key_len: int, block_size: int = 1) -> Tensor:
    validation.check_indices(meta(indices), key_len, block_size)
    _check_range(indices, -(-key_len // block_size))
    return reference.mask_of(indices, key_len, block_size)


def _check_range(indices: Tensor, count: int) -> None:
    """An index past the end would otherwise be lost. On a GPU the check waits for no result."""
    message = f"indices must be below {count}, the number of keys or blocks"
    if indices.device.type != "cpu":
        torch._assert_async((indices < count).all(), message)
    elif indices.numel() and (largest := int(indices.max())) >= count:
        raise ValueError(f"{message}, got {largest}")


def _mask_from_indices_fake(indices: Tensor, key_len: int, block_size: int = 1) -> Tensor:
    validation.check_indices(meta(indices), key_len, block_size)
    return indices.new_empty((*indices.shape[:3], key_len), dtype=torch.bool)


# ------------------------------------------------------------------ the table of these ops

_SELECTED = (
    "Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, "
    "Tensor? key_lengths, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor"
)

library.define(
    _LIBRARY,
    "select(Tensor attention_bias, SymInt window_size, Tensor? attention_mask=None, "
    "bool is_causal=False, SymInt? query_len=None, Tensor? key_lengths=None, SymInt sinks=0, "
    "SymInt local=0, float? min_dtype=None) -> (Tensor threshold, Tensor cutoff)",
    kernel=_select,
    fake=_select_fake,
    floating=True,
)
library.define(
    _LIBRARY,
    f"kept_indices({_SELECTED}, SymInt window_size) -> Tensor",
    kernel=_kept_indices,
    fake=_kept_indices_fake,
)
library.define(
    _LIBRARY,
    f"kept_blocks({_SELECTED}, SymInt query_block, SymInt key_block) -> Tensor",
    kernel=_kept_blocks,
    fake=_kept_blocks_fake,
)
library.define(
    _LIBRARY,
    "mask_from_indices(Tensor indices, SymInt key_len, SymInt block_size=1) -> Tensor",
    kernel=_mask_from_indices,
    fake=_mask_from_indices_fake,
)
OPS = ("kept_blocks", "kept_indices", "mask_from_indices", "select")
