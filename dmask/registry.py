"""Mask strategies by name.

A strategy is a plain function ``(attention_bias, attention_mask, ...options) -> bool mask``.
Registering it makes the op ``torch.ops.dmask.<name>_mask`` with schema, fake and vmap rule, so that
it compiles without a graph break at once, and lets ``create_mask(type=name)`` find it.

A call is *planned* once (checked, a kernel chosen) and then *run* on tensors as often as it comes
again, as FlashInfer splits its attention calls: a model makes the same call per layer and per
token, and the checks would cost as much as a small mask.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast, overload

import torch
from torch import Tensor
from torch.library import Library, infer_schema

from dmask import library, shapes, validation
from dmask.kernels import reference
from dmask.validation import Shape, TensorMeta, meta, optional_meta

MaskFunction = Callable[..., Tensor]
MaskMaker = Callable[[Tensor, Tensor | None], Tensor]
"""Makes the mask of a bias and a bool mask that broadcast against each other."""
Planner = Callable[..., MaskMaker]
"""`(bias: TensorMeta, shape, floor, **arguments)`: chooses how a checked call is run."""

F = TypeVar("F", bound=MaskFunction)
P = ParamSpec("P")
R = TypeVar("R")

# What create_mask hands by itself to the strategies that name it. Every further parameter of a
# strategy is an option of its own, of one of these types.
CALL_ARGUMENTS = ("window_size", "min_dtype", "tie_break")
_OPTION_TYPES: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": {"True": True, "False": False}.__getitem__,
}


class Plan(NamedTuple):
    """A checked call: what is left is to run it on the tensors it was made for."""

    shape: Shape
    run: MaskMaker


@dataclass(frozen=True, eq=False)
class Strategy:
    """A registered way to choose keys."""

    name: str
    parameters: Mapping[str, torch._C.Argument]
    """Those of the op's schema after the bias and the mask."""
    planner: Planner
    builtin: bool
    """dmask's own cannot be unregistered."""
    library: Library

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the parameters that are the strategy's own."""
        return tuple(name for name in self.parameters if name not in CALL_ARGUMENTS)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a call of the op by name: the dispatcher leaves defaults out."""
        defaults = {name: argument.default_value for name, argument in self.parameters.items()}
        return {**defaults, **dict(zip(self.parameters, args, strict=False)), **kwargs}

    def arguments(self, call: Mapping[str, Any], options: str) -> dict[str, Any]:
        """The arguments of one `create_mask`: those of the call it has a name for, and options."""
        if call["window_size"] is None and self._required("window_size"):
            raise ValueError(f"type {self.name!r} needs a window_size, got None")
        own = self._parse(options)
        missing = tuple(name for name in self.options if name not in own and self._required(name))
        if missing:
            raise ValueError(f"type {self.name!r} needs the options {missing!r}")
        return self.bind((), {n: v for n, v in call.items() if n in self.parameters} | own)

    def plan(
        self,
        bias: TensorMeta,
        mask: TensorMeta | None,
        floor: float,
        arguments: dict[str, Any],
        key_len: int | None = None,
    ) -> Plan:
        """Plans a call whose arguments are checked."""
        shape = validation.mask_shape(bias, mask, key_len)
        run = self.planner(bias, shape, floor, **arguments)
        if not shapes.fits(bias, mask, shape):
            run = partial(_align_and_run, run, shape)
        return Plan(shape, run)

    def _required(self, name: str) -> bool:
        return name in self.parameters and not self.parameters[name].has_default_value()

    def _parse(self, options: str) -> dict[str, Any]:
        """The opposite of `encode_options`."""
        values: dict[str, Any] = {}
        for option in options.split(",") if options else ():
            name, _, text = option.partition("=")
            if name not in self.options:
                raise validation.unknown(f"{self.name!r} option", name, self.options)
            kind = str(self.parameters[name].type)
            try:
                values[name] = _OPTION_TYPES[kind](text)
            except (KeyError, ValueError):
                raise ValueError(
                    f"{self.name!r} option {name!r} must be {kind}, got {text!r}"
                ) from None
        return values


def _align_and_run(
    run: MaskMaker, shape: Shape, attention_bias: Tensor, attention_mask: Tensor | None
) -> Tensor:
    return run(*shapes.align(attention_bias, attention_mask, shape))


def encode_options(options: Mapping[str, object] | None) -> str:
    """`{"p": 0.9, "pool": "max"}` as an op's schema can carry it: `"p=0.9,pool=max"`.

    Exact for every float: its text reads back as the same number.
    """
    if not options:
        return ""
    for name, value in options.items():
        if not isinstance(value, (int, float, str)):  # bool is an int
            raise TypeError(
                f"option {name!r} must be an int, float, bool or str, got {type(value).__name__}"
            )
    # A compiled call may hand in a symbolic number, which has no text. Sets hold numbers only.
    return ",".join([f"{name}={number}" for name, value in options.items() for number in {value}])


_strategies: dict[str, Strategy] = {}
_plan_caches: list[Callable[[], None]] = []


def cached_plan(check: Callable[P, R]) -> Callable[P, R]:
    """Remembers the plans of calls that passed their checks, until a strategy is unregistered.

    For kernels only: the symbolic sizes that fakes see cannot be looked up.
    """
    cached = lru_cache(maxsize=1024)(check)
    _plan_caches.append(cached.cache_clear)
    return cast("Callable[P, R]", cached)


def forget_plans() -> None:
    """Lets every call be checked and planned anew."""
    for forget in _plan_caches:
        forget()


def strategies() -> tuple[str, ...]:
    """The names of all registered strategies, sorted.

    >>> import dmask
    >>> dmask.strategies()
    ('block_topk', 'ratio', 'relu', 'topk', 'topp')
    """
    return tuple(sorted(_strategies))


def get_strategy(name: str) -> Strategy:
    """The strategy called `name`; the `ValueError` for another name lists the valid ones."""
    strategy = _strategies.get(name)
    if strategy is None:
        raise validation.unknown("type", name, strategies())
    return strategy


@overload
def register_strategy(name: str) -> Callable[[F], F]: ...
@overload
def register_strategy(name: str, function: F) -> F: ...
def register_strategy(name: str, function: F | None = None) -> F | Callable[[F], F]:
    """Registers a mask strategy, as a decorator or as a call. Returns the function unchanged.

    Args:
        name: an identifier. The op is `torch.ops.dmask.<name>_mask`.
        function: `(attention_bias, attention_mask, ...options) -> mask`, annotated, made of
            PyTorch operations. It is given a bias `({B|1}, {H|1}, {Lq|1}, Lk)` and a bool mask that
            broadcasts against it, or `None`, and returns a bool mask that broadcasts to the shape
            of both. The parameters `window_size`, `min_dtype` (the floor, never `None`) and
            `tie_break`, where it names them, come from `create_mask`. Every other one is an option
            of its own, of type `int`, `float`, `bool` or `str`.

    Forbidden keys, and keys whose score is at or under the floor, are removed from what the
    function returns: no strategy can let them through. The entries of a batch must not depend on
    each other.

    Raises:
        ValueError: for a name that is taken, or no identifier, or a function that has not the
            signature of a strategy.

    >>> import torch, dmask
    >>> @dmask.register_strategy("above")
    ... def above(attention_bias: torch.Tensor, attention_mask: torch.Tensor | None,
    ...           threshold: float = 0.0) -> torch.Tensor:
    ...     return attention_bias > threshold
    >>> bias = torch.tensor([0.1, 0.7, 0.9]).view(1, 1, 1, 3)
    >>> dmask.create_mask(bias, None, 1, 1, 3, None, type="above", options={"threshold": 0.5})
    tensor([[[[False,  True,  True]]]])
    >>> dmask.unregister_strategy("above")
    """
    if function is None:
        return lambda decorated: register_strategy(name, decorated)
    try:
        schema = infer_schema(function, mutates_args=())
    except ValueError as error:
        raise _not_a_strategy(name, inspect.signature(function), str(error)) from None
    add(name, schema, partial(_plan_function, name, function))
    return function


def unregister_strategy(name: str) -> None:
    """Removes a strategy and its op again. dmask's own stay."""
    strategy = get_strategy(name)
    if strategy.builtin:
        raise ValueError(f"type {name!r} is built in and cannot be unregistered")
    del _strategies[name]
    forget_plans()
    library.destroy(strategy.library)


def add(name: str, schema: str, planner: Planner, *, builtin: bool = False) -> None:
    """Makes the op of a strategy, and files the strategy under its name."""
    if name in _strategies:
        raise ValueError(f"type {name!r} is registered already, as one of {strategies()!r}")
    if not name.isidentifier() or hasattr(torch.ops.dmask, f"{name}_mask"):
        raise ValueError(
            f"a type must be an identifier for which no op dmask::<type>_mask exists, got {name!r}"
        )
    parameters = _parameters(name, schema)
    own_library = library.fragment()
    strategy = Strategy(name, parameters, planner, builtin, own_library)
    library.define(
        own_library,
        f"{name}_mask{schema}",
        kernel=partial(_kernel, strategy),
        fake=partial(_fake, strategy),
    )
    _strategies[name] = strategy


def _parameters(name: str, schema: str) -> dict[str, torch._C.Argument]:
    """The parameters of a strategy after the bias and the mask; an error if they are not one's."""
    parsed = torch._C.parse_schema(f"{name}{schema}")
    tensors, others = parsed.arguments[:2], parsed.arguments[2:]
    wrong = [
        argument.name
        for argument in others
        if argument.name not in CALL_ARGUMENTS and str(argument.type) not in _OPTION_TYPES
    ]
    if [str(argument.type) for argument in tensors] != ["Tensor", "Optional[Tensor]"]:
        raise _not_a_strategy(name, schema, "a bias and an optional mask must come first")
    if [str(result.type) for result in parsed.returns] != ["Tensor"]:
        raise _not_a_strategy(name, schema, "the result must be one Tensor")
    if wrong:
        raise _not_a_strategy(name, schema, f"options {wrong!r} must be int, float, bool or str")
    return {argument.name: argument for argument in others}


def _not_a_strategy(name: str, given: object, why: str) -> ValueError:
    return ValueError(
        f"strategy {name!r} must be a function (attention_bias: Tensor, attention_mask: "
        f"Tensor | None, ...options) -> Tensor, got {given}: {why}"
    )


def _plan_function(
    name: str, function: MaskFunction, _: TensorMeta, shape: Shape, floor: float, **arguments: Any
) -> MaskMaker:
    """Plans a call of somebody else's function, whose result is kept to the rule."""
    if "min_dtype" in arguments:
        arguments["min_dtype"] = floor

    def run(bias: Tensor, allowed: Tensor | None) -> Tensor:
        kept = function(bias, allowed, **arguments)
        validation.check_strategy_result(name, kept, shape)
        kept = kept & reference.eligible_keys(bias, allowed, floor)
        return kept.expand(shape).contiguous()

    return run


# ------------------------------------------------------------------ the op of a strategy


def _check(
    strategy: Strategy, bias: TensorMeta, mask: TensorMeta | None, *args: Any, **kw: Any
) -> Plan:
    arguments = strategy.bind(args, kw)
    validation.check_bias(bias)
    validation.check_mask_4d(mask, bias)
    call = {name: arguments[name] for name in CALL_ARGUMENTS if name in arguments}
    floor = validation.check_call(bias.dtype, **call)
    return strategy.plan(bias, mask, floor, arguments)


_plan = cached_plan(_check)


def _kernel(
    strategy: Strategy, attention_bias: Tensor, attention_mask: Tensor | None, *args: Any, **kw: Any
) -> Tensor:
    plan = _plan(strategy, meta(attention_bias), optional_meta(attention_mask), *args, **kw)
    return plan.run(attention_bias, attention_mask)


def _fake(
    strategy: Strategy, attention_bias: Tensor, attention_mask: Tensor | None, *args: Any, **kw: Any
) -> Tensor:
    plan = _check(strategy, meta(attention_bias), optional_meta(attention_mask), *args, **kw)
    return attention_bias.new_empty(plan.shape, dtype=torch.bool)
