"""Where the scores, masks and lengths of a row lie, and how kernels are launched."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs

SWITCH = "DMASK_TRITON"


class Rows(NamedTuple):
    """Tensors that broadcast to `[B, H, Lq, Lk]`, as a kernel takes them."""

    shape: tuple[int, int, int, int]
    bias: Tensor
    bias_strides: tuple[int, int, int, int]
    mask: Tensor
    """The bias again where there is no mask: a kernel wants a pointer."""
    mask_strides: tuple[int, int, int, int]
    has_mask: bool

    def mask_units(self, vector: int) -> tuple[int, tuple[int, int, int, int]]:
        """Returns the largest unit up to `vector` of the mask's strides, and these in that unit;
        the stride of keys as it is.
        """
        unit = math.gcd(vector, *self.mask_strides[:3])
        batch, head, query, key = self.mask_strides
        return unit, (batch // unit, head // unit, query // unit, key)

    @property
    def total(self) -> int:
        return math.prod(self.shape[:3])


def broadcast_rows(bias: Tensor, allowed: Tensor | None, shape: tuple[int, ...]) -> Rows:
    """Describes the rows of a bias and a mask without making them contiguous."""
    strides = _strides(bias, shape)
    sizes: Any = tuple(shape)
    if allowed is None:
        return Rows(sizes, bias, strides, bias, (0, 0, 0, 0), False)
    return Rows(sizes, bias, strides, allowed, _strides(allowed, shape), True)


def _strides(tensor: Tensor, shape: tuple[int, ...]) -> Any:
    """Returns the strides of a tensor expanded to `shape`: 0 along what is broadcast."""
    return tuple(
        0 if own == 1 and size != 1 else stride
        for own, size, stride in zip(tensor.shape, shape, tensor.stride(), strict=True)
    )


def selected(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, out: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments and constants that kernels that read a selection share."""
    bias, allowed, lengths, positions, floor = inputs
    rows = broadcast_rows(bias, allowed, (*threshold.shape, positions.key_len))
    arguments = (
        bias,
        rows.mask,
        cutoff if lengths is None else lengths,
        threshold,
        cutoff,
        out,
        *threshold.shape[1:],
        positions.key_len,
        *rows.bias_strides,
        *rows.mask_strides,
        0 if lengths is None or lengths.shape[0] == 1 else lengths.stride(0),
        positions.query_len,
        floor_code(floor, bias.dtype),
        positions.sinks,
        positions.local,
    )
    constants = {
        "HAS_MASK": rows.has_mask,
        "LENGTHS": lengths is not None,
        "CAUSAL": positions.is_causal,
        "ALWAYS": positions.sinks > 0 or positions.local > 0,
        "LOCAL": positions.local > 0,
    }
    return arguments, constants


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
OPTIONS: dict[str, Any] = {}
"""Options of all launches, for tuning."""


class Tile(NamedTuple):
    """The tile that holds a row. A line is what all threads load at once, 16 bytes each."""

    lines: int
    columns: int
    warps: int
    rows_each: int
    """How many rows a program takes one after another."""
    alone: bool
    """True if programs have a multiprocessor each, so that time is that of one row."""


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


# ------------------------------------------------------------------ launches


@lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """Returns how many multiprocessors a device has; 1 in the interpreter."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


_compiled: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}


def launch(
    op: str, kernel: Any, grid: tuple[int, ...], shape: tuple[int, ...], *args: Any, **options: Any
) -> None:
    """Launches a kernel on the device of its first tensor.

    Triton's own way to a compiled kernel takes 35 us, as it looks at each argument for what it
    specializes on. Here kernels are remembered by all of that: numbers, and the dtype and alignment
    of tensors. A model repeats its calls.

    Args:
        args: all parameters but the constants, in order.
        options: the constants, and options of Triton such as `num_warps`.

    Raises:
        RuntimeError: if the kernel does not compile, naming the op, the shape, and the switch.
    """
    options |= OPTIONS
    device = args[0].device
    try:
        if device.type != "cuda":  # the interpreter
            kernel[grid](*args, **options)
        elif device.index != torch.cuda.current_device():
            with torch.cuda.device(device):
                _launch_compiled(kernel, grid, device, args, options)
        else:
            _launch_compiled(kernel, grid, device, args, options)
    except Exception as error:  # whatever Triton, LLVM, ptxas or the driver raise
        raise RuntimeError(
            f"the Triton kernel of {op} failed for scores of shape {tuple(shape)}: {error}; "
            f"set {SWITCH}=0 to do without Triton"
        ) from error


def _launch_compiled(
    kernel: Any,
    grid: tuple[int, ...],
    device: torch.device,
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    key = (
        kernel,
        device.index,
        *[(arg.dtype, arg.data_ptr() % 16) if isinstance(arg, Tensor) else arg for arg in args],
        *options.values(),
    )
    remembered = _compiled.get(key)
    if remembered is None:
        compiled = kernel[grid](*args, **options)
        if len(_compiled) >= 2**12:
            _compiled.clear()
        constants = tuple([options[name] for name in kernel.arg_names[len(args) :]])
        _compiled[key] = compiled, constants
    else:
        compiled, constants = remembered
        compiled[(*grid, 1, 1)[:3]](*args, *constants)
