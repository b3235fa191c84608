"""Rows that are too long for registers, split over programs in four launches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dmask.kernels.triton import layout
from dmask.kernels.triton.layout import Rows, floor_code, launch
from dmask.kernels.triton.splits import gather_splits, sample_rows, settle_rows, write_splits

MAX_KEYS = 2**24
"""The longest row: float32 does not hold the indices of longer ones."""
MIN_ROWS = 65
"""The fewest rows. One program settles a row: 2 rows of 524288 keys take 1.3 ms, ten times as long
as `torch.topk`, and 64 rows of 65536 take as long as it.
"""
WARPS = 4
SAMPLE = 2**12
SPLIT = 2**13
ROOM = 2**10, 2**14
"""For how many keys between the ends of a bracket there is room, at least and at most."""


def supports(shape: Sequence[int]) -> bool:
    """True if rows `[B, H, Lq, Lk]` are short enough for registers, or long and many."""
    rows, keys = math.prod(shape[:3]), shape[3]
    return keys <= layout.MAX_KEYS or (keys <= MAX_KEYS and rows >= MIN_ROWS)


def _tile(size: int, element_size: int) -> dict[str, int]:
    columns = min(size, WARPS * 32 * (16 // element_size))
    return {"R": size // columns, "C": columns, "num_warps": WARPS}


def bounds(
    op: str, rows: Rows, window_size: int, floor: float, threshold: Tensor, cutoff: Tensor
) -> None:
    """Writes the threshold and the cutoff of each row."""
    keys, total, size = rows.shape[3], rows.total, rows.bias.element_size()
    window, code = min(window_size, keys), floor_code(floor, rows.bias.dtype)
    sample = min(SAMPLE, 1 << (keys.bit_length() - 1))
    share = window / keys
    between = (8 * math.sqrt(share * sample * (1 - share)) + 8) * keys / sample
    room = min(max(1 << int(1.5 * between).bit_length(), ROOM[0]), ROOM[1])
    splits = -(-keys // SPLIT)
    brackets, counts, gathered = _scratch(rows, total, room)
    common, strides, shared = _arguments(rows)
    tensors = (rows.bias, rows.mask)

    def run(kernel: Any, programs: int, *args: Any, **constants: Any) -> None:
        launch(op, kernel, (programs,), rows.shape, *args, **shared, **constants)

    run(
        sample_rows,
        total,
        *tensors,
        brackets,
        *common,
        *strides,
        window,
        code,
        **_tile(sample, size),
    )
    run(
        gather_splits,
        total * splits,
        *tensors,
        brackets,
        counts,
        gathered,
        *common,
        splits,
        *strides,
        room,
        **_tile(SPLIT, size),
    )
    run(
        settle_rows,
        total,
        *tensors,
        brackets,
        counts,
        gathered,
        threshold,
        cutoff,
        *common,
        *strides,
        window,
        code,
        room,
        **_tile(room, size),
    )


def _scratch(rows: Rows, total: int, room: int) -> tuple[Tensor, Tensor, Tensor]:
    device = rows.bias.device
    brackets = torch.empty((total, 2), dtype=torch.int32, device=device)
    counts = torch.zeros((total, 3), dtype=torch.int32, device=device)
    return brackets, counts, torch.empty((total, room), dtype=torch.int32, device=device)


def _arguments(rows: Rows) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Returns the sizes, strides and constants that all kernels take."""
    keys = rows.shape[3]
    vector = math.gcd(keys, 16 // rows.bias.element_size())
    unit, mask_strides = rows.mask_units(vector)
    sizes = (*rows.shape[1:3], keys // vector)
    constants = {"HAS_MASK": rows.has_mask, "VEC": vector, "MASK_VEC": unit}
    return sizes, (*rows.bias_strides, *mask_strides), constants


def write(op: str, rows: Rows, out: Tensor, window_size: int, floor: float) -> None:
    """Writes a mask or indices."""
    keys, total, device = rows.shape[3], rows.total, rows.bias.device
    threshold = torch.empty(total, dtype=rows.bias.dtype, device=device)
    cutoff = torch.empty(total, dtype=torch.int32, device=device)
    bounds(op, rows, window_size, floor, threshold, cutoff)
    splits = -(-keys // SPLIT)
    masks = out.dtype is torch.bool
    counts = cutoff if masks else torch.empty((total, splits), dtype=torch.int32, device=device)
    sizes, strides, shared = _arguments(rows)
    for kind in ("mask",) if masks else ("count", "indices"):
        launch(
            op,
            write_splits,
            (total * splits,),
            rows.shape,
            rows.bias,
            rows.mask,
            threshold,
            cutoff,
            counts,
            out,
            *sizes,
            splits,
            *strides,
            window_size,
            OUT=kind,
            SPLITS=1 << (splits - 1).bit_length(),
            **shared,
            **_tile(SPLIT, rows.bias.element_size()),
        )
