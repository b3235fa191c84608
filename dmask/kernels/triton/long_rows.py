"""Rows that are too long for registers, split over programs: see `splits`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dmask.kernels.triton import layout
from dmask.kernels.triton.launches import Launch
from dmask.kernels.triton.layout import Geometry, Rows, lowest_code, power_of_2
from dmask.kernels.triton.sampling import sample_of, sample_rows
from dmask.kernels.triton.settle import settle_rows
from dmask.kernels.triton.split_writes import write_splits
from dmask.kernels.triton.splits import gather_splits

LONGEST = 2**24
"""The longest row: float32 cannot represent larger indices."""
SPLIT = 2**13
HEAD, WORDS = 3, 3
"""As in `splits`."""
WARPS = {sample_rows: (8, 8), gather_splits: (16, 4), settle_rows: (8, 8), write_splits: (16, 8)}
"""The warps of a program, if there are at most two programs per multiprocessor and if there are
more. Kernels that search gain little from more warps, because every warp repeats the choice of what
to count next.
"""
CAPPED = gather_splits, write_splits
"""Kernels for which ptxas would use 160 registers, so that fewer of many programs would fit."""


def supports(shape: Sequence[int], floor: float) -> bool:
    """True if the kernels for top-k and selections support such rows."""
    return shape[3] <= LONGEST and layout.supports(shape, floor)


class _Launches(NamedTuple):
    """The launches for one geometry of rows. `settle` or `write` is missing if it is not needed."""

    sample: Launch
    gather: Launch
    settle: Launch | None
    write: Launch | None
    note: int
    """How many integers the notes of a row have."""

    def notes(self, rows: Rows) -> Tensor:
        """Samples the rows and gathers their keys."""
        size, device = (rows.total, self.note), rows.bias.device
        notes = torch.empty(size, dtype=torch.int32, device=device)
        self.sample(rows.bias, rows.mask, notes)
        self.gather(rows.bias, rows.mask, notes)
        return notes


@lru_cache(maxsize=2**10)
def _launches(op: str, rows: Geometry, window_size: int, floor: float, out: str) -> _Launches:
    """Prepares launches that write `"bounds"`, a `"mask"` or `"indices"`."""
    keys, total = rows.shape[3], rows.total
    window, code = min(window_size, keys), lowest_code(floor, rows.dtype)
    splits = -(-keys // SPLIT)
    sizes, strides, shared = rows.numbers()
    processors = layout.processors(rows.device)
    sample = sample_of(keys, window, few=total <= processors)
    room = sample.room
    # A program may write several splits, so that a multiprocessor does not settle a row twice.
    each = min(splits, -(-total * splits // processors))
    early = total <= processors and layout.starts_early(rows.device)
    starts = {sample_rows: early, gather_splits: early and total * splits <= processors}

    def prepare(kernel: Any, programs: int, size: int, *numbers: int, **constants: Any) -> Launch:
        few = programs <= 2 * processors
        warps = max(1, min(WARPS[kernel][0 if few else 1], max(size, SPLIT) // 512))
        columns = min(warps * 32 * (16 // rows.dtype.itemsize), size, SPLIT)
        tile: dict[str, Any] = {"R": size // columns, "C": columns, "num_warps": warps}
        if kernel is sample_rows:
            tile |= {"R": sample.group, "C": sample.groups}
        tile["maxnreg"] = layout.REGISTERS if kernel in CAPPED and not few else None
        if kernel in starts:
            tile["STARTS"] = starts[kernel]
        if kernel is not sample_rows:
            tile["WAITS"] = early
            if early:
                tile["launch_pdl"] = True
        numbers = (*sizes, splits, *strides, room, *numbers)
        constants = shared | constants | tile
        return Launch(op, rows.shape, kernel, (programs,), numbers, **constants)

    parts: dict[str, Any] = {"SPLIT": SPLIT, "SPLITS": power_of_2(splits)}
    settle, write = None, None
    settled = each == splits
    if out == "bounds" or settled:
        count = out == "indices"
        settle = prepare(settle_rows, total, room, window, code, **parts, COUNT=count)
    if out != "bounds":
        each = 1 if settled else each
        parts |= {"OUT": out, "SETTLED": settled, "EACH": each}
        programs = total * -(-splits // each)
        write = prepare(write_splits, programs, room, window, code, window_size, **parts)
    size, wanted = sample.group * sample.groups, (sample.more, sample.fewer, sample.slack)
    return _Launches(
        prepare(sample_rows, total, size, *wanted, code),
        prepare(gather_splits, total * splits, SPLIT, code),
        settle,
        write,
        HEAD + WORDS * splits + room,
    )


def bounds(
    op: str, rows: Rows, window_size: int, floor: float, threshold: Tensor, cutoff: Tensor
) -> Tensor:
    """Writes the threshold and the cutoff of each row. Returns the notes of the rows."""
    launches = _launches(op, rows.geometry, window_size, floor, "bounds")
    notes = launches.notes(rows)
    assert launches.settle is not None
    launches.settle(rows.bias, rows.mask, notes, threshold, cutoff)
    return notes


def write(op: str, rows: Rows, out: Tensor, window_size: int, floor: float) -> None:
    """Writes a mask or indices."""
    name = "mask" if out.dtype is torch.bool else "indices"
    launches = _launches(op, rows.geometry, window_size, floor, name)
    notes = launches.notes(rows)
    threshold = cutoff = notes  # pointers that are not read
    if launches.settle is not None:
        threshold = rows.bias.new_empty(rows.total)
        cutoff = notes.new_empty(rows.total)
        launches.settle(rows.bias, rows.mask, notes, threshold, cutoff)
    assert launches.write is not None
    launches.write(rows.bias, rows.mask, notes, threshold, cutoff, out)
