"""The layout of rows for kernels: shapes, strides and tiles of scores, masks and lengths."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton.histogram import MOST
from dmask.kernels.triton.instructions import opaque


class Rows(NamedTuple):
    """A bias and a mask that broadcast to `[B, H, Lq, Lk]`, in the form that kernels take."""

    shape: tuple[int, int, int, int]
    bias: Tensor
    bias_strides: tuple[int, int, int, int]
    mask: Tensor
    """The bias if there is no mask, because a kernel needs a pointer."""
    mask_strides: tuple[int, int, int, int]
    has_mask: bool

    @property
    def total(self) -> int:
        return math.prod(self.shape[:3])

    @property
    def geometry(self) -> Geometry:
        """Returns the description without the tensors."""
        strides = self.bias_strides, self.mask_strides if self.has_mask else None
        return Geometry(self.shape, *strides, self.bias.dtype, self.bias.device)


class Geometry(NamedTuple):
    """Rows without their tensors. Prepared launches are cached under it."""

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
        """Returns the keys per load: at most 16 bytes, and a divisor of the row length."""
        return math.gcd(self.shape[3], 16 // self.dtype.itemsize)

    def numbers(self) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
        """Returns the sizes, strides and constants that row kernels take."""
        mask_strides = self.mask_strides or (0, 0, 0, 0)
        # The largest divisor, up to `vector`, of all strides of the mask except that of keys.
        unit = math.gcd(self.vector, *mask_strides[:3])
        units = (*[stride // unit for stride in mask_strides[:3]], mask_strides[3])
        sizes = (*self.shape[1:3], self.shape[3] // self.vector)
        constants = {
            "HAS_MASK": self.mask_strides is not None,
            "VEC": self.vector,
            "MASK_VEC": unit,
        }
        return sizes, (*self.bias_strides, *units), constants


MAX_INDEX = 2**31 - 2**15
"""Kernels count the keys of a row, and rows, in 32 bits, up to one tile beyond the last."""


def supports(shape: Sequence[int], floor: float) -> bool:
    """True if the kernels support rows `[B, H, Lq, Lk]` of this shape, with this floor.

    Above a floor of infinity there is only NaN, which has no code.
    """
    return floor != math.inf and shape[3] <= MAX_INDEX and math.prod(shape[:3]) <= MAX_INDEX


def broadcast_shape(bias: Tensor, allowed: Tensor | None) -> tuple[int, int, int, int]:
    """Returns the shape of the rows of a bias and a mask."""
    shape: Any = bias.shape
    return shape if allowed is None else tuple(torch.broadcast_shapes(shape, allowed.shape))


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
    """Returns the strides of a tensor expanded to `shape`, with 0 for broadcast dimensions."""
    return tuple(
        0 if own == 1 and size != 1 else stride
        for own, size, stride in zip(tensor.shape, shape, tensor.stride(), strict=True)
    )


class Limits(NamedTuple):
    """Key lengths or row ranges, without the tensors."""

    kind: str
    """`"none"`, `"lengths"` or `"ranges"`."""
    strides: tuple[int, int, int, int]
    """Those of batch and queries, of the starts and of the ends. Lengths are ends."""
    dtypes: tuple[torch.dtype, ...]
    """A compiled kernel depends on them."""


class Restricted(NamedTuple):
    """Rows and their restrictions, without the tensors. Prepared launches are cached under it."""

    rows: Geometry
    positions: Positions
    limits: Limits
    floor: float

    def numbers(self, unit: int = 1) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the numbers and the constants of kernels that read a selection.

        Args:
            unit: the number of keys per unit. The row length is returned in units.
        """
        rows, positions = self.rows, self.positions
        numbers = (
            *rows.shape[1:3],
            rows.shape[3] // unit,
            *rows.bias_strides,
            *(rows.mask_strides or (0, 0, 0, 0)),
            *self.limits.strides,
            positions.query_len,
            lowest_code(self.floor, rows.dtype),
            positions.sinks,
            positions.local,
        )
        return numbers, {"HAS_MASK": rows.mask_strides is not None, **self.restrictions()}

    def restrictions(self) -> dict[str, Any]:
        """Returns the constants that tell a kernel which restrictions apply."""
        positions = self.positions
        return {
            "LIMITS": self.limits.kind,
            "CAUSAL": positions.is_causal,
            "ALWAYS": positions.sinks > 0 or positions.local > 0,
            "LOCAL": positions.local > 0,
        }


def restricted_rows(
    inputs: SelectionInputs, shape: tuple[int, ...], pointer: Tensor
) -> tuple[tuple[Tensor, ...], Restricted]:
    """Describes the rows `[B, H, Lq]` of a selection.

    Returns:
        The bias, the mask, and the starts and ends of rows (or `pointer` if there are none, because
        a kernel needs a pointer), and a description without tensors.
    """
    rows = broadcast_rows(inputs.bias, inputs.allowed, (*shape, inputs.positions.key_len))
    starts, ends, limits = _limits(inputs, pointer)
    restricted = Restricted(rows.geometry, inputs.positions, limits, inputs.floor)
    return (rows.bias, rows.mask, starts, ends), restricted


def _limits(inputs: SelectionInputs, pointer: Tensor) -> tuple[Tensor, Tensor, Limits]:
    if inputs.ranges is not None:
        starts, ends = inputs.ranges
        strides: Any = tuple(
            0 if limit.shape[dim] == 1 else limit.stride(dim)
            for limit in inputs.ranges
            for dim in (0, 2)
        )
        return starts, ends, Limits("ranges", strides, (starts.dtype, ends.dtype))
    lengths = inputs.lengths
    if lengths is None:
        return pointer, pointer, Limits("none", (0, 0, 0, 0), ())
    stride = 0 if lengths.shape[0] == 1 else lengths.stride(0)
    return pointer, lengths, Limits("lengths", (0, 0, stride, 0), (lengths.dtype,))


def selected_rows(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor
) -> tuple[tuple[Tensor, ...], Restricted]:
    """Does the same as `restricted_rows`, and adds the threshold and cutoff to the tensors."""
    tensors, restricted = restricted_rows(inputs, threshold.shape, cutoff)
    return (*tensors, threshold.contiguous(), cutoff.contiguous()), restricted


@triton.jit
def row_offset(row, heads, queries, batch_stride, head_stride, query_stride):
    """Returns the offset of a row in elements, in 64 bits: tensors may exceed 2^31 elements."""
    query = row % queries
    head = (row // queries) % heads
    batch = row // (queries * heads)
    return (
        batch.to(tl.int64) * batch_stride
        + head.to(tl.int64) * head_stride
        + query.to(tl.int64) * query_stride
    )


@triton.jit
def multiple(number, unit: tl.constexpr):
    """Returns `number * unit`, of which the compiler knows that `unit` divides it, and no more.

    If it knew of a larger divisor, tiles would get the layout that suits a mask best, 16 keys per
    thread, which puts the threads of a column in different warps. Triton can be told not to look at
    a number (`do_not_specialize`), but Inductor looks at all.
    """
    return opaque(number) * unit


# ------------------------------------------------------------------ tiles

MAX_KEYS = 2**15
"""The length of the longest row that fits in registers."""
SCORES_PER_THREAD = 64
"""Scores per thread. More scores mean fewer threads, and so a cheaper reduction over threads."""
FEW_SCORES_PER_THREAD = 32
"""Scores per thread if each program has a multiprocessor to itself. Not fewer: every warp repeats
the choice of what to count next, and with too many warps that takes longer than counting.
"""
PAIRED_SCORES_PER_THREAD = 128
"""The same for scores of 16 bits that are held in pairs."""
MAX_ROWS_EACH = 16
WARPS_PER_PROCESSOR = 32
"""A program takes several rows if with one row each, a multiprocessor would get more warps than
this.
"""
REGISTERS, MORE_REGISTERS, MOST_REGISTERS = 96, 128, 160
"""Maximum numbers of registers per thread. With fewer, more programs fit on a multiprocessor, but
threads may have to store scores in memory.
"""


def power_of_2(number: int) -> int:
    """Returns the smallest power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()


class Tile(NamedTuple):
    """The tile that holds a row. A line is what all threads load at once, 16 bytes per thread."""

    lines: int
    columns: int
    warps: int
    vector: int
    """How many neighboring keys a thread holds."""
    rows_each: int
    """How many rows a program processes, one after another."""
    alone: bool
    """True if each program has a multiprocessor to itself. Then the latency of one row matters."""
    paired: bool
    """True if a row is held as `pairs`, two scores of 16 bits in each register."""

    def registers(self, out: str, masked: bool) -> int | None:
        """Returns the maximum number of registers per thread, if there is one: the fastest on an
        H100 (`benchmarks.cuda_tuning`).

        Args:
            out: what the kernel writes: a `"mask"`, `"indices"` or `"bounds"`.
            masked: True if it reads a mask.
        """
        keys = self.lines * self.columns
        if self.alone or (keys == 2**11 and not self.paired):
            return None
        if self.paired:
            more = keys <= 2**13 and (masked or out != "bounds")
            return MOST_REGISTERS if more else MORE_REGISTERS
        few = keys <= 2**10 or (keys == 2**13 and not masked and out != "indices")
        return REGISTERS if few else MORE_REGISTERS


@lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """Returns how many multiprocessors a device has; 1 in the interpreter."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@lru_cache(maxsize=16)
def starts_early(device: torch.device) -> bool:
    """True if a launch may start before the one before it ends (compute capability 9.0)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


@lru_cache(maxsize=16)
def compares_pairs(device: torch.device) -> bool:
    """True if a device compares two bfloat16 in one instruction (compute capability 9.0), and in
    the interpreter.
    """
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0)


@lru_cache(maxsize=1024)
def tile_of(
    keys: int, element_size: int, rows: int, device: torch.device, pairs: bool = True
) -> Tile:
    """Returns the tile of each row, for `rows` rows of `keys` keys.

    Args:
        pairs: the kernel can hold a row as `pairs`.
    """
    block, multiprocessors = max(32, power_of_2(keys)), processors(device)
    alone = rows <= multiprocessors
    vector = 16 // element_size
    paired = pairs and vector == 8 and keys % vector == 0 and compares_pairs(device)
    paired = paired and not (alone and block <= MOST.value)  # few scores have a histogram
    each = PAIRED_SCORES_PER_THREAD if paired else SCORES_PER_THREAD
    if alone:
        each = FEW_SCORES_PER_THREAD
    warps = max(1, min(16, block // (32 * each)))
    columns = min(block, warps * 32 * vector)
    programs = max(1, multiprocessors * WARPS_PER_PROCESSOR // warps)
    rows_each = max(1, min(MAX_ROWS_EACH, rows // programs))
    return Tile(block // columns, columns, warps, vector, rows_each, alone, paired)


# ------------------------------------------------------------------ codes of floors


@lru_cache(maxsize=256)
def lowest_code(floor: float, dtype: torch.dtype) -> int:
    """Returns the code of the lowest eligible score: one above a floor, which may be -inf."""
    return _code(floor + 0.0, dtype) + 1  # + 0.0 turns -0.0 into 0.0, whose code is higher


def _code(score: float, dtype: torch.dtype) -> int:
    """Returns an integer that sorts like a score: its bits, the magnitude inverted if negative."""
    if dtype is torch.float16:
        (bits,) = struct.unpack("<h", struct.pack("<e", score))
        return int(bits) if bits >= 0 else int(bits ^ 0x7FFF)
    (bits,) = struct.unpack("<i", struct.pack("<f", score))
    code = int(bits) if bits >= 0 else int(bits ^ 0x7FFFFFFF)
    return code >> 16 if dtype is torch.bfloat16 else code
