"""One selection as two numbers per row: the op `select`, and what the ops that read it share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from dmask import shapes, validation
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
"""The parameters of the ops that read a selection."""


class Checked(NamedTuple):
    """A checked selection: the shape of its rows, what they see, and the floor."""

    shape: Shape
    """`[B, H, Lq, Lk]`, where `Lq` is 1 if all rows are alike."""
    positions: Positions
    floor: float

    def inputs(self, bias: Tensor, mask: Tensor | None, lengths: Tensor | None) -> SelectionInputs:
        """Brings the tensors of the selection together."""
        bias, allowed = shapes.align(bias, mask, self.shape)
        if bias.dtype not in RANKED:
            bias = ranked(bias)
        lengths = None if lengths is None else lengths[:, None, None, None]
        return SelectionInputs(bias, allowed, lengths, self.positions, self.floor)


class Run(NamedTuple):
    """The planned `select`, in two steps: `Selection` holds what comes of the first."""

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
    validation.check_always_kept(window_size, sinks, local)
    validation.check_key_lengths(lengths, bias)
    shape, query_len = validation.selection_sizes(bias, mask, lengths, query_len)
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
    """Selects; takes the arguments of the op.

    Returns:
        The inputs brought together, and the threshold and cutoff of each row.
    """
    bias, _, mask, _, _, lengths, *_ = args
    if not is_dynamo_compiling() and dispatch.is_direct(SPEC, args):
        run: Run = SPEC.planned(args).run  # type: ignore[assignment]
        inputs = run.checked.inputs(bias, mask, lengths)
        return inputs, *run.bounds(inputs)
    args = validation.check_types(SPEC.types, args)
    checked = _check(*[validation.describe(arg) for arg in args])
    inputs = checked.inputs(bias, None if mask is None else to_bool(mask), lengths)
    return inputs, *dispatch.dispatched(SPEC, (bias.detach(), *args[1:]))


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
    """Checks the arguments of an op that reads a selection."""
    validation.check_bounds(bias, threshold, cutoff)
    positions = Positions(query_len, bias.shape[3], is_causal, sinks, local)
    shape = (bias.shape[0], threshold.shape[1], query_len, bias.shape[3])
    return Checked(shape, positions, floor)
