"""Rows that are too long for registers, split over programs in four launches: see `splits`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dmask.kernels.triton import layout
from dmask.kernels.triton.layout import Rows, floor_code, launch
from dmask.kernels.triton.settle import settle_rows
from dmask.kernels.triton.splits import gather_splits, sample_rows, write_splits

MAX_KEYS = 2**24
"""The longest row: float32 does not hold the indices of longer ones."""
WARPS = 4
SAMPLE = 2**10, 2**12
"""How many keys of a row to sample, at least and at most."""
SPLIT = 2**13
ROOM = 2**10, 2**14
"""For how many keys between the ends of a bracket there is room, at least and at most."""
HEAD, WORDS = 4, 4
"""As in `splits`."""
MORE_WARPS = {sample_rows: 1, gather_splits: 4, settle_rows: 2, write_splits: 4}
"""How many times as many warps a program takes that has a multiprocessor to itself. Those that
search choose what to count next in every warp, and more warps do not make them faster.
"""


def supports(shape: Sequence[int]) -> bool:
    """True if the kernels of this folder take rows `[B, H, Lq, Lk]` of such a length."""
    return shape[3] <= MAX_KEYS


class _Splits:
    """The rows of one call, cut into splits, with the notes that its launches share."""

    def __init__(self, op: str, rows: Rows, window_size: int) -> None:
        self.op, self.rows = op, rows
        self.keys, self.device = rows.shape[3], rows.bias.device
        self.window, self.count = min(window_size, self.keys), -(-self.keys // SPLIT)
        self.sample, self.room = _sample(self.keys, self.window)
        shape = rows.total, HEAD + WORDS * self.count + self.room
        self.notes = torch.empty(shape, dtype=torch.int32, device=self.device)

    def launch(self, kernel: Any, programs: int, size: int, *args: Any, **constants: Any) -> None:
        """Launches a kernel over tiles of `size` keys. `args` are its tensors after the notes,
        `None`, and its last numbers.
        """
        rows, middle = self.rows, args.index(None)
        size_of = rows.bias.element_size()
        vector = math.gcd(self.keys, 16 // size_of)
        unit, mask_strides = rows.mask_units(vector)
        alone = programs <= 2 * layout.processors(self.device)
        warps = max(1, min(WARPS * (MORE_WARPS[kernel] if alone else 1), size // 256))
        columns = min(warps * 32 * (16 // size_of), size, SPLIT)
        launch(
            self.op,
            kernel,
            (programs,),
            rows.shape,
            rows.bias,
            rows.mask,
            self.notes,
            *args[:middle],
            *rows.shape[1:3],
            self.keys // vector,
            self.count,
            *rows.bias_strides,
            *mask_strides,
            self.room,
            *args[middle + 1 :],
            HAS_MASK=rows.has_mask,
            VEC=vector,
            MASK_VEC=unit,
            **constants,
            R=size // columns,
            C=columns,
            num_warps=warps,
        )


@lru_cache(maxsize=256)
def _sample(keys: int, window: int) -> tuple[int, int]:
    """Returns how many keys of a row to sample, and room for its keys between `low` and `high`: the
    smallest sample that leaves few of them.
    """
    largest = min(SAMPLE[1], 1 << (keys.bit_length() - 1))
    sample = min(SAMPLE[0], largest)
    while sample < largest and _room(keys, window, sample) > ROOM[1] // 4:
        sample *= 2
    return sample, _room(keys, window, sample)


def _room(keys: int, window: int, sample: int) -> int:
    """Returns room for the keys between two ranks of a sample, and five standard deviations."""
    rank = window / keys * sample
    margin = 4 * math.sqrt(rank * (1 - window / keys)) + 2
    ranks = 1.25 * margin + rank - max(rank - 1.25 * margin, 0)
    room = (ranks + 5 * math.sqrt(ranks)) * keys / sample
    return min(max(1 << int(room).bit_length(), ROOM[0]), ROOM[1])


def bounds(
    op: str,
    rows: Rows,
    window_size: int,
    floor: float,
    threshold: Tensor,
    cutoff: Tensor,
    count: bool = False,
) -> _Splits:
    """Writes the threshold and the cutoff of each row; with `count`, notes the kept keys."""
    splits, total = _Splits(op, rows, window_size), rows.total
    numbers = splits.window, floor_code(floor, rows.bias.dtype)
    splits.launch(sample_rows, total, splits.sample, None, *numbers)
    splits.launch(gather_splits, total * splits.count, SPLIT, None, numbers[1])
    splits.launch(
        settle_rows,
        total,
        splits.room,
        threshold,
        cutoff,
        None,
        *numbers,
        COUNT=count,
        SPLIT=SPLIT,
        SPLITS=1 << (splits.count - 1).bit_length(),
    )
    return splits


def write(op: str, rows: Rows, out: Tensor, window_size: int, floor: float) -> None:
    """Writes a mask or indices."""
    masks, device = out.dtype is torch.bool, rows.bias.device
    threshold = torch.empty(rows.total, dtype=rows.bias.dtype, device=device)
    cutoff = torch.empty(rows.total, dtype=torch.int32, device=device)
    splits = bounds(op, rows, window_size, floor, threshold, cutoff, count=not masks)
    splits.launch(
        write_splits,
        rows.total * splits.count,
        SPLIT,
        threshold,
        cutoff,
        out,
        None,
        window_size,
        OUT="mask" if masks else "indices",
        SPLITS=1 << (splits.count - 1).bit_length(),
    )
