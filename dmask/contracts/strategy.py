"""The contract that all strategies share, and the op `<name>_mask` of each.

A strategy chooses keys for a bias and a mask that already have a common shape. Its contract is the
schema of its op and a `choose` function, which checks the options of the strategy and returns the
function that makes the mask. All strategies share the checks of tensors, window and floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.arguments import REQUIRED, Parameter
from dmask.contracts.spec import OpSpec, Plan, parse_parameters
from dmask.validation import Shape, TensorMeta

MaskFunction = Callable[[Tensor, Tensor | None], Tensor]
"""Makes the mask of a bias and a bool mask that broadcast against each other."""

CALL_ARGUMENTS = ("window_size", "min_dtype", "tie_break")
"""The arguments that `create_mask` passes to strategies that declare them. Every other parameter of
a strategy is an option.
"""


@dataclass(frozen=True, eq=False)
class Strategy:
    """A named method of choosing keys."""

    name: str
    schema: str
    """The parameters and result of its op: `"(Tensor attention_bias, ...) -> Tensor"`."""
    choose: Callable[..., MaskFunction]
    """`(bias: TensorMeta, shape, floor, **arguments)`, with all arguments of the op after the two
    tensors. Returns the function that makes the mask.
    """
    builtin: bool = True
    """True for dmask's strategies, which cannot be unregistered."""
    by_position: bool = False
    """True if the result of a row depends on its position, so that a mask needs a row per query."""
    small: Callable[..., Tensor] | None = None
    """See `OpSpec`."""

    @cached_property
    def op(self) -> OpSpec:
        return OpSpec(f"{self.name}_mask{self.schema}", partial(_plan, self), small=self.small)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters after the bias and the mask, by name."""
        return {p.name: p for p in parse_parameters(f"{self.name}{self.schema}")[2:]}

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The names of the strategy's options."""
        return tuple(name for name in self.parameters if name not in CALL_ARGUMENTS)

    def arguments(self, call: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all arguments of the strategy for one call of `create_mask`.

        Args:
            call: the `CALL_ARGUMENTS`.
            own: the given options.
        """
        arguments, missing = {}, []
        for name, parameter in self.parameters.items():
            source = call if name in CALL_ARGUMENTS else own
            arguments[name] = source.get(name, parameter.default)
            if arguments[name] is REQUIRED:
                missing.append(name)
            if arguments[name] is None and not parameter.optional:
                raise ValueError(f"type {self.name!r} requires {name}, got None")
        if missing:
            raise ValueError(f"type {self.name!r} requires the options {tuple(missing)!r}")
        return arguments


def plan_mask(
    strategy: Strategy,
    bias: TensorMeta,
    mask: TensorMeta | None,
    shape: Shape,
    floor: float,
    arguments: Mapping[str, Any],
) -> Plan:
    """Plans a mask of `shape`, for checked tensors that may not have a common shape yet."""
    run = strategy.choose(bias, shape, floor, **arguments)
    if not shapes.fits(bias, mask, shape):
        run = partial(_align_and_run, run, shape)
    return Plan(TensorMeta(shape, torch.bool, bias.device), run)


def _align_and_run(
    run: MaskFunction, shape: Shape, attention_bias: Tensor, attention_mask: Tensor | None
) -> Tensor:
    return run(*shapes.align(attention_bias, attention_mask, shape))


def _plan(strategy: Strategy, bias: TensorMeta, mask: TensorMeta | None, *values: Any) -> Plan:
    arguments = dict(zip(strategy.parameters, values, strict=True))
    validation.check_bias(bias)
    validation.check_mask_4d(mask, bias)
    call = {name: arguments[name] for name in CALL_ARGUMENTS if name in arguments}
    floor = validation.check_call(bias.dtype, **call)
    shape = validation.mask_shape(bias, mask)
    return plan_mask(strategy, bias, mask, shape, floor, arguments)
