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
    "Tensor? key_lengths, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor"
)
"""The parameters of the ops that take a selection."""


class Checked(NamedTuple):
    """A checked selection: its shape, its restrictions by position, and its floor."""

    shape: Shape
    """`[B, H, Lq, Lk]`, where `Lq` is 1 if all rows are the same."""
    positions: Positions
    floor: float

    def inputs(self, bias: Tensor, mask: Tensor | None, lengths: Tensor | None) -> SelectionInputs:
        """Brings the tensors of the selection to a common shape."""
        bias, allowed = shapes.align(bias, mask, self.shape)
        if bias.dtype not in RANKED:
            bias = ranked(bias)
        lengths = None if lengths is None else lengths[:, None, None, None]
        return SelectionInputs(bias, allowed, lengths, self.positions, self.floor)


class Run(NamedTuple):
    """A planned call of `select`, in two steps. `Selection` keeps the result of the first one."""

    checked: Checked
    kernel: Callable[..., tuple[Tensor, Tensor]]
    window_size: int

    def __call__(self, *tensors: Any) -> tuple[Tensor, Tensor]:
        return self.bounds(self.checked.inputs(*tensors))

    def bounds(self, inputs: SelectionInputs) -> tuple[Tensor, Tensor]:
        return self.kernel(inputs, self.checked.shape[:3], self.window_size)


def _check(
    bias: TensorMeta,
    window_size: int,
    mask: TensorMeta | None,
    is_causal: bool,
    query_len: int | None,
    lengths: TensorMeta | None,
    sinks: int,
    local: int,
    min_dtype: float | None,
) -> Checked:
    validation.check_bias(bias)
    floor = validation.check_call(bias.dtype, window_size, min_dtype)
    _check_always_kept(window_size, sinks, local)
    _check_key_lengths(lengths, bias)
    shape, query_len = _sizes_of(bias, mask, lengths, query_len)
    positions = Positions(query_len, shape[3], is_causal, sinks, local)
    if positions.by_row():
        shape = (*shape[:2], query_len, shape[3])
    return Checked(shape, positions, floor)


def _plan(bias: TensorMeta, window_size: int, *others: Any) -> Plan:
    checked = _check(bias, window_size, *others)
    rows = checked.shape[:3]
    dtype = bias.dtype if bias.dtype in RANKED else torch.float32
    result = TensorMeta(rows, dtype, bias.device), TensorMeta(rows, torch.int32, bias.device)
    run: Any = Run(checked, KERNEL.choose(bias.device, dtype), window_size)
    return Plan(result, run)


SPEC = OpSpec(
    "select(Tensor attention_bias, SymInt window_size, Tensor? attention_mask=None, "
    "bool is_causal=False, SymInt? query_len=None, Tensor? key_lengths=None, SymInt sinks=0, "
    "SymInt local=0, float? min_dtype=None) -> (Tensor threshold, Tensor cutoff)",
    _plan,
    differentiable=False,
)


def select(*args: Any) -> tuple[SelectionInputs, Tensor, Tensor]:
    """Calls `select` with the arguments of the op.

    Returns:
        The inputs in a common shape, and the threshold and cutoff of each row.
    """
    bias, _, mask, _, _, lengths, *_ = args
    if not is_dynamo_compiling() and dispatch.is_direct(SPEC, args):
        run: Run = SPEC.planned(args).run  # type: ignore[assignment]
        inputs = run.checked.inputs(bias, mask, lengths)
        return inputs, *run.bounds(inputs)
    args = arguments.check_types(SPEC.types, args)
    checked = _check(*[validation.describe(arg) for arg in args])
    inputs = checked.inputs(bias, None if mask is None else to_bool(mask), lengths)
    return inputs, *dispatch.call(SPEC, bias.detach(), *args[1:])


# ------------------------------------------------------------------ checks


def _check_key_lengths(lengths: TensorMeta | None, bias: TensorMeta) -> None:
    if lengths is None:
        return
    if lengths.dtype not in validation.INDEX_DTYPES:
        raise TypeError(f"key_lengths must be int32 or int64, got {lengths.dtype}")
    validation.check_device(lengths, bias, "attention_bias", "key_lengths")
    if len(lengths.shape) != 1:
        raise ValueError(f"key_lengths must be 1-D (B,), got shape {tuple(lengths.shape)}")


def _check_batch(lengths: TensorMeta | None, batch: int) -> None:
    if lengths is not None and known(lengths.shape[0] != 1) and known(lengths.shape[0] != batch):
        raise ValueError(
            f"key_lengths of shape {tuple(lengths.shape)} contradicts batch_size={batch}: "
            f"dimension 0 must be {batch} or 1"
        )


def _check_always_kept(window_size: int, sinks: int, local: int) -> None:
    validation.check_not_negative("sinks", sinks)
    validation.check_not_negative("local", local)
    if known(sinks + local > window_size):
        raise ValueError(
            f"sinks + local must be at most window_size={window_size}, got {sinks} + {local}"
        )


def _sizes_of(
    bias: TensorMeta,
    mask: TensorMeta | None,
    lengths: TensorMeta | None,
    query_len: int | None,
) -> tuple[Shape, int]:
    """Checks the tensors of a selection against each other.

    Returns:
        The broadcast shape of bias and restrictions, and `query_len`: as given, or taken from the
        tensors.
    """
    batch, _, queries, keys = bias.shape
    if mask is not None and known(batch == 1):
        batch = mask.shape[0]
    if lengths is not None and known(batch == 1):
        batch = lengths.shape[0]
    if mask is not None and len(mask.shape) == 4:
        keys = mask.shape[3] if known(keys == 1) else keys
        queries = mask.shape[2] if known(queries == 1) else queries
    query_len = queries if query_len is None else query_len
    validation.check_sizes(bias, mask, (batch, query_len, keys))
    _check_batch(lengths, batch)
    _, heads, queries, keys = validation.mask_shape(bias, mask, keys)
    return (batch, heads, queries, keys), query_len


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
    _check_key_lengths(lengths, bias)
    _check_batch(lengths, batch)
    validation.check_not_negative("sinks", sinks)
    validation.check_not_negative("local", local)
    floor = validation.floor_of(floor, bias.dtype, "floor")
    positions = Positions(query_len, bias.shape[3], is_causal, sinks, local)
    shape = (bias.shape[0], threshold.shape[1], query_len, bias.shape[3])
    return Checked(shape, positions, floor)
