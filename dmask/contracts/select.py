"""A selection as two numbers per row: the op `select`, and checks for ops that take one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from dmask import arguments, shapes, validation
from dmask.compat import known
from dmask.contracts import dispatch
from dmask.contracts.dispatch import Kernel
from dmask.contracts.masks import to_bool
from dmask.contracts.spec import OpSpec, Plan
from dmask.kernels.reference.ranking import RANKED, ranked
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.validation import Shape, TensorMeta

KERNEL = Kernel("select.select", "cpu", "triton")

SELECTED = (
    "Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, "
    "Tensor? key_lengths, Tensor? range_starts, Tensor? range_ends, SymInt query_len, "
    "bool is_causal, SymInt sinks, SymInt local, float floor"
)
"""The parameters of the ops that take a selection."""


class Checked(NamedTuple):
    """A checked selection: its shape, its restrictions by position, and its floor."""

    shape: Shape
    """`[B, H, Lq, Lk]`, where `Lq` is 1 if all rows are the same."""
    positions: Positions
    floor: float

    def inputs(
        self,
        bias: Tensor,
        mask: Tensor | None,
        *limits: Tensor | None,
    ) -> SelectionInputs:
        """Brings the tensors of the selection to a common shape.

        Args:
            limits: `key_lengths`, `range_starts` and `range_ends`.
        """
        bias, allowed = shapes.align(bias, mask, self.shape)
        if bias.dtype not in RANKED:
            bias = ranked(bias)
        lengths, ranges = limits_4d(*limits)
        return SelectionInputs(bias, allowed, lengths, self.positions, self.floor, ranges)


def limits_4d(
    lengths: Tensor | None, starts: Tensor | None, ends: Tensor | None
) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
    """Returns checked key lengths and row ranges as 4-D tensors."""
    if starts is not None and ends is not None:
        return None, (starts[:, None, :, None], ends[:, None, :, None])
    return None if lengths is None else lengths[:, None, None, None], None


class Run(NamedTuple):
    """A planned call of `select`, in two steps. `Selection` keeps the result of the first one."""

    checked: Checked
    kernel: Callable[..., tuple[Tensor, Tensor]]
    window_size: int

    def __call__(self, *tensors: Any) -> tuple[Tensor, Tensor]:
        return self.bounds(self.checked.inputs(*tensors))

    def bounds(self, inputs: SelectionInputs) -> tuple[Tensor, Tensor]:
        return self.kernel(inputs, self.checked.shape[:3], self.window_size)


def check_selection(
    bias: TensorMeta,
    window_size: int,
    mask: TensorMeta | None,
    is_causal: bool,
    query_len: int | None,
    lengths: TensorMeta | None,
    sinks: int,
    local: int,
    min_dtype: float | None,
    starts: TensorMeta | None,
    ends: TensorMeta | None,
) -> Checked:
    """Checks the arguments of `select`."""
    validation.check_bias(bias)
    floor = validation.check_call(bias.dtype, window_size, min_dtype)
    _check_always_kept(window_size, sinks, local)
    limits = _check_limits(bias, lengths, starts, ends, is_causal)
    shape, query_len = _sizes_of(bias, mask, limits, query_len)
    positions = Positions(query_len, shape[3], is_causal, sinks, local)
    if positions.by_row():
        shape = (*shape[:2], query_len, shape[3])
    return Checked(shape, positions, floor)


def _plan(bias: TensorMeta, window_size: int, *others: Any) -> Plan:
    checked = check_selection(bias, window_size, *others)
    rows = checked.shape[:3]
    dtype = bias.dtype if bias.dtype in RANKED else torch.float32
    result = TensorMeta(rows, dtype, bias.device), TensorMeta(rows, torch.int32, bias.device)
    run: Any = Run(checked, KERNEL.choose(bias.device, dtype), window_size)
    return Plan(result, run)


SPEC = OpSpec(
    "select(Tensor attention_bias, SymInt window_size, Tensor? attention_mask=None, "
    "bool is_causal=False, SymInt? query_len=None, Tensor? key_lengths=None, SymInt sinks=0, "
    "SymInt local=0, float? min_dtype=None, Tensor? range_starts=None, Tensor? range_ends=None) "
    "-> (Tensor threshold, Tensor cutoff)",
    _plan,
    differentiable=False,
)


def select(*args: Any) -> tuple[SelectionInputs, Tensor, Tensor]:
    """Calls `select` with the arguments of the op.

    Returns:
        The inputs in a common shape, and the threshold and cutoff of each row.
    """
    if not is_dynamo_compiling() and dispatch.is_direct(SPEC, args):
        run: Run = SPEC.planned(args).run  # type: ignore[assignment]
        inputs = run.checked.inputs(*SPEC.tensors_of(args))
        return inputs, *run.bounds(inputs)
    args = arguments.check_types(SPEC.types, args)
    checked = check_selection(*[validation.describe(arg) for arg in args])
    bias, _, mask, _, _, lengths, _, _, _, *ranges = args
    inputs = checked.inputs(bias, None if mask is None else to_bool(mask), lengths, *ranges)
    return inputs, *dispatch.call(SPEC, bias.detach(), *args[1:])


# ------------------------------------------------------------------ checks


class Limit(NamedTuple):
    """A tensor that limits the keys of rows: `key_lengths`, or a part of `key_ranges`."""

    name: str
    tensor: TensorMeta
    batch: int
    queries: int
    """Both are 1 if the limit is the same for all."""


def _check_limits(
    bias: TensorMeta,
    lengths: TensorMeta | None,
    starts: TensorMeta | None,
    ends: TensorMeta | None,
    is_causal: bool,
) -> list[Limit]:
    """Checks the key lengths and row ranges, except their sizes."""
    limits = []
    if lengths is not None:
        _check_indices_of("key_lengths", lengths, bias, "1-D (B,)", 1)
        limits.append(Limit("key_lengths", lengths, lengths.shape[0], 1))
    for name, tensor in (("key_ranges[0]", starts), ("key_ranges[1]", ends)):
        if tensor is None:
            continue
        _check_indices_of(name, tensor, bias, "2-D ({B|1}, {Lq|1})", 2)
        limits.append(Limit(name, tensor, *tensor.shape))
    if starts is None and ends is None:
        return limits
    if starts is None or ends is None:
        raise ValueError("key_ranges must have a start and an end, got one of them")
    if is_causal or lengths is not None:
        other = "is_causal" if is_causal else "key_lengths"
        raise ValueError(f"key_ranges cannot be combined with {other}: put both in the ranges")
    return limits


def _check_indices_of(
    name: str, tensor: TensorMeta, bias: TensorMeta, shape: str, dims: int
) -> None:
    if tensor.dtype not in validation.INDEX_DTYPES:
        raise TypeError(f"{name} must be int32 or int64, got {tensor.dtype}")
    validation.check_device(tensor, bias, "attention_bias", name)
    if len(tensor.shape) != dims:
        raise ValueError(f"{name} must be {shape}, got shape {tuple(tensor.shape)}")


def _check_limit_sizes(limits: list[Limit], batch: int, query_len: int) -> None:
    for name, tensor, own_batch, own_queries in limits:
        for dim, own, size_name, size in (
            (0, own_batch, "batch_size", batch),
            (1, own_queries, "query_len", query_len),
        ):
            if known(own != 1) and known(own != size):
                raise ValueError(
                    f"{name} of shape {tuple(tensor.shape)} contradicts {size_name}={size}: "
                    f"dimension {dim} must be {size} or 1"
                )


def _check_always_kept(window_size: int, sinks: int, local: int) -> None:
    validation.check_not_negative("sinks", sinks)
    validation.check_not_negative("local", local)
    if known(sinks + local > window_size):
        raise ValueError(
            f"sinks + local must be at most window_size={window_size}, got {sinks} + {local}"
        )


def _sizes_of(
    bias: TensorMeta, mask: TensorMeta | None, limits: list[Limit], query_len: int | None
) -> tuple[Shape, int]:
    """Checks the tensors of a selection against each other.

    Returns:
        The broadcast shape of bias and restrictions, and `query_len`: as given, or taken from the
        tensors.
    """
    batch, _, queries, keys = bias.shape
    if mask is not None and known(batch == 1):
        batch = mask.shape[0]
    if mask is not None and len(mask.shape) == 4:
        keys = mask.shape[3] if known(keys == 1) else keys
        queries = mask.shape[2] if known(queries == 1) else queries
    for limit in limits:
        batch = limit.batch if known(batch == 1) else batch
        queries = limit.queries if known(queries == 1) else queries
    query_len = queries if query_len is None else query_len
    validation.check_sizes(bias, mask, (batch, query_len, keys))
    _check_limit_sizes(limits, batch, query_len)
    _, heads, rows, keys = validation.mask_shape(bias, mask, keys)
    for limit in limits:
        rows = limit.queries if known(rows == 1) else rows
    return (batch, heads, rows, keys), query_len


def _check_bounds(
    bias: TensorMeta, threshold: TensorMeta, cutoff: TensorMeta, query_len: int
) -> None:
    """Checks the threshold and cutoff of `select` against the bias."""
    validation.check_bias(bias)
    for name, tensor in (("threshold", threshold), ("cutoff", cutoff)):
        if len(tensor.shape) != 3:
            raise ValueError(f"{name} must be 3-D [B, H, Lq], got shape {tuple(tensor.shape)}")
        validation.check_device(tensor, bias, "attention_bias", name)
    if any(known(a != b) for a, b in zip(threshold.shape, cutoff.shape, strict=True)):
        raise ValueError(
            f"threshold and cutoff must have the same shape, got {tuple(threshold.shape)} "
            f"and {tuple(cutoff.shape)}"
        )
    if known(threshold.shape[2] != query_len):
        raise ValueError(
            f"threshold must have query_len={query_len} rows, got shape {tuple(threshold.shape)}"
        )
    dtype = bias.dtype if bias.dtype in RANKED else torch.float32
    for name, tensor, expected in (
        ("threshold", threshold, dtype),
        ("cutoff", cutoff, torch.int32),
    ):
        if tensor.dtype is not expected:
            raise TypeError(f"{name} must be {expected}, got {tensor.dtype}")


def read_selection(
    bias: TensorMeta,
    threshold: TensorMeta,
    cutoff: TensorMeta,
    mask: TensorMeta | None,
    lengths: TensorMeta | None,
    starts: TensorMeta | None,
    ends: TensorMeta | None,
    query_len: int,
    is_causal: bool,
    sinks: int,
    local: int,
    floor: float,
) -> Checked:
    """Checks the arguments of an op that takes a selection."""
    _check_bounds(bias, threshold, cutoff, query_len)
    batch, heads, _ = threshold.shape
    validation.check_sizes(bias, mask, (batch, query_len, bias.shape[3]))
    validation.check_heads("attention_bias", bias, heads)
    if mask is not None and len(mask.shape) == 4:
        validation.check_heads("attention_mask", mask, heads)
    _check_limit_sizes(_check_limits(bias, lengths, starts, ends, is_causal), batch, query_len)
    validation.check_not_negative("sinks", sinks)
    validation.check_not_negative("local", local)
    floor = validation.floor_of(floor, bias.dtype, "floor")
    positions = Positions(query_len, bias.shape[3], is_causal, sinks, local)
    shape = (bias.shape[0], threshold.shape[1], query_len, bias.shape[3])
    return Checked(shape, positions, floor)
