"""Describes to kernels where the scores, masks and lengths of rows are, and in which tiles."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import Positions, SelectionInputs


class Rows(NamedTuple):
    """Tensors that broadcast to `[B, H, Lq, Lk]`, as a kernel takes them."""

    shape: tuple[int, int, int, int]
    bias: Tensor
    bias_strides: tuple[int, int, int, int]
    mask: Tensor
    """The bias again where there is no mask: a kernel wants a pointer."""
    mask_strides: tuple[int, int, int, int]
    has_mask: bool

    @property
    def total(self) -> int:
        return math.prod(self.shape[:3])

    @property
    def geometry(self) -> Geometry:
        """Returns all but the tensors."""
        strides = self.bias_strides, self.mask_strides if self.has_mask else None
        return Geometry(self.shape, *strides, self.bias.dtype, self.bias.device)


class Geometry(NamedTuple):
    """Rows without their tensors: what launches are prepared for, and remembered by."""

    shape: tuple[int, int, int, int]
    bias_strides: tuple[int, int, int, int]
    mask_strides: tuple[int, int, int, int] | None
    dtype: torch.dtype
    device: torch.device

    @property
    def total(self) -> int:
        return math.prod(self.shape[:3])

    @property
    def vector(self) -> int:
        """Returns how many keys a load of 16 bytes takes, if all rows are made of such loads."""
        return math.gcd(self.shape[3], 16 // self.dtype.itemsize)

    def numbers(self) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
        """Returns the sizes, the strides and the constants that kernels of rows take."""
        mask_strides = self.mask_strides or (0, 0, 0, 0)
        # The largest unit of the mask's strides; the stride of keys stays as it is.
        unit = math.gcd(self.vector, *mask_strides[:3])
        units = (*[stride // unit for stride in mask_strides[:3]], mask_strides[3])
        sizes = (*self.shape[1:3], self.shape[3] // self.vector)
        constants = {
            "HAS_MASK": self.mask_strides is not None,
            "VEC": self.vector,
            "MASK_VEC": unit,
        }
        return sizes, (*self.bias_strides, *units), constants


def broadcast_rows(bias: Tensor, allowed: Tensor | None, shape: tuple[int, ...]) -> Rows:
    """Describes the rows of a bias and a mask, without making them contiguous if they fit."""
    bias = _within_32_bits(bias)
    strides = _strides(bias, shape)
    sizes: Any = tuple(shape)
    if allowed is None:
        return Rows(sizes, bias, strides, bias, (0, 0, 0, 0), False)
    allowed = _within_32_bits(allowed)
    return Rows(sizes, bias, strides, allowed, _strides(allowed, shape), True)


def _within_32_bits(tensor: Tensor) -> Tensor:
    """Returns a tensor whose keys are so close together that 32 bits hold their offsets."""
    if tensor.shape[3] * tensor.stride(3) < 2**31:
        return tensor
    return tensor.contiguous()


def _strides(tensor: Tensor, shape: tuple[int, ...]) -> Any:
    """Returns the strides of a tensor expanded to `shape`: 0 along what is broadcast."""
    return tuple(
        0 if own == 1 and size != 1 else stride
        for own, size, stride in zip(tensor.shape, shape, tensor.stride(), strict=True)
    )


class Restricted(NamedTuple):
    """Rows and what restricts them, without the tensors: what launches are remembered by."""

    rows: Geometry
    positions: Positions
    length_stride: int | None
    """`None` if there are no lengths."""
    floor: float

    def numbers(self, unit: int = 1) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the numbers and the constants of kernels that read a selection.

        Args:
            unit: keys are counted in it.
        """
        rows, positions = self.rows, self.positions
        numbers = (
            *rows.shape[1:3],
            rows.shape[3] // unit,
            *rows.bias_strides,
            *(rows.mask_strides or (0, 0, 0, 0)),
            self.length_stride or 0,
            positions.query_len,
            floor_code(self.floor, rows.dtype),
            positions.sinks,
            positions.local,
        )
        return numbers, {"HAS_MASK": rows.mask_strides is not None, **self.restrictions()}

    def restrictions(self) -> dict[str, bool]:
        """Returns the constants that say which restrictions there are."""
        positions = self.positions
        return {
            "LENGTHS": self.length_stride is not None,
            "CAUSAL": positions.is_causal,
            "ALWAYS": positions.sinks > 0 or positions.local > 0,
            "LOCAL": positions.local > 0,
        }


def restricted_rows(
    inputs: SelectionInputs, shape: tuple[int, ...], pointer: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Restricted]:
    """Describes the rows `[B, H, Lq]` of a selection.

    Returns:
        The bias, the mask and the lengths, with `pointer` where there are no lengths: a kernel
        wants one. And all but the tensors.
    """
    bias, allowed, lengths, positions, floor = inputs
    rows = broadcast_rows(bias, allowed, (*shape, positions.key_len))
    stride = None
    if lengths is not None:
        stride = 0 if lengths.shape[0] == 1 else lengths.stride(0)
        pointer = lengths
    return (rows.bias, rows.mask, pointer), Restricted(rows.geometry, positions, stride, floor)


def selected_rows(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor
) -> tuple[tuple[Tensor, ...], Restricted]:
    """Describes a selection as `restricted_rows` does, with its bounds among the tensors."""
    tensors, restricted = restricted_rows(inputs, threshold.shape, cutoff)
    return (*tensors, threshold.contiguous(), cutoff.contiguous()), restricted


@triton.jit
def row_offset(row, heads, queries, batch_stride, head_stride, query_stride):
    """Returns where a row starts, in elements: 64 bits, for tensors beyond 2^31 elements."""
    query = row % queries
    head = (row // queries) % heads
    batch = row // (queries * heads)
    return (
        batch.to(tl.int64) * batch_stride
        + head.to(tl.int64) * head_stride
        + query.to(tl.int64) * query_stride
    )


# ------------------------------------------------------------------ tiles

MAX_KEYS = 2**15
"""The longest row that registers hold."""
MAX_SCANNED = 2**14
"""The longest row whose scan for indices fits in shared memory: one twice as long takes 256 KiB.
Longer rows are selected first, and passed over for their indices.
"""
SCORES_PER_THREAD = 64
"""How many scores a thread holds: more share the cost of each reduction over threads."""
FEW_SCORES_PER_THREAD = 32
"""The same for programs that have a multiprocessor each. Every warp chooses what to count next, so
many of them take longer for that than for counting.
"""
MAX_ROWS_EACH = 16
WARPS_PER_PROCESSOR = 32
"""How many warps each multiprocessor gets before a program takes more than one row."""
REGISTERS = 96
"""How many registers a thread may take. Ptxas would take up to 128 for `SCORES_PER_THREAD`, and
leave room for fewer programs: bf16 `[1, 8, 8192, 8192]` takes 1.16 ms so, and 1.33 without.
"""


class Tile(NamedTuple):
    """The tile that holds a row. A line is what all threads load at once, 16 bytes each."""

    lines: int
    columns: int
    warps: int
    rows_each: int
    """How many rows a program takes one after another."""
    alone: bool
    """True if programs have a multiprocessor each, so that time is that of one row."""


@lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """Returns how many multiprocessors a device has; 1 in the interpreter."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@lru_cache(maxsize=1024)
def tile_of(keys: int, element_size: int, rows: int, device: torch.device) -> Tile:
    """Returns the tile for a number of rows."""
    block, multiprocessors = max(32, 1 << (keys - 1).bit_length()), processors(device)
    alone = rows <= multiprocessors
    each = FEW_SCORES_PER_THREAD if alone else SCORES_PER_THREAD
    warps = max(1, min(16, block // (32 * each)))
    columns = min(block, warps * 32 * (16 // element_size))
    programs = max(1, multiprocessors * WARPS_PER_PROCESSOR // warps)
    rows_each = max(1, min(MAX_ROWS_EACH, rows // programs))
    return Tile(block // columns, columns, warps, rows_each, alone)


# ------------------------------------------------------------------ floors


@lru_cache(maxsize=256)
def floor_code(floor: float, dtype: torch.dtype) -> int:
    """Returns the lowest code above a floor. A floor of infinity has none but NaN's."""
    return _code(floor + 0.0, dtype) + 1  # never -0.0, whose code is below that of 0.0


def _code(score: float, dtype: torch.dtype) -> int:
    """Returns the integer that sorts like a score: its bits, the magnitude flipped if negative."""
    if dtype is torch.float16:
        (bits,) = struct.unpack("<h", struct.pack("<e", score))
        return int(bits) if bits >= 0 else int(bits ^ 0x7FFF)
    (bits,) = struct.unpack("<i", struct.pack("<f", score))
    code = int(bits) if bits >= 0 else int(bits ^ 0x7FFFFFFF)
    return code >> 16 if dtype is torch.bfloat16 else code
