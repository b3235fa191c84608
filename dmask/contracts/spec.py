"""Describes an op (`OpSpec`) and registers it (`define`).

`define` uses `Library.define` and `Library.impl` rather than `torch.library.custom_op`. Such an op
has a third of the call overhead, and works under `torch.func.grad` and `jvp`, where `custom_op`
requires a `setup_context`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import Library

from dmask import arguments, compat, validation
from dmask.arguments import REQUIRED, Parameter
from dmask.validation import TensorMeta

NAMESPACE = "dmask"


class Plan(NamedTuple):
    """A checked call: a description of its result, and the function that computes it."""

    result: TensorMeta | tuple[TensorMeta, ...]
    run: Callable[..., Any]
    """Takes the tensors of the call in the order of the schema, with `None` for missing ones."""


@dataclass(frozen=True, eq=False)
class OpSpec:
    """The contract of an op."""

    schema: str
    """The schema of the op. Defaults are defined only here."""
    plan: Callable[..., Plan]
    """Checks a call and plans it. Takes all arguments by position, with tensors as `TensorMeta`. It
    thus runs on fake tensors exactly as on real ones, and a compiled call fails with the same
    message as an eager one, before any work is done.
    """
    differentiable: bool = True
    """False for an op with floating-point results that have no gradient."""
    in_parts: bool = False
    """True for an op whose kernel loops over parts of its result: no graph should hold the loop."""
    small: Callable[..., Tensor] | None = None
    """Plain operations that replace the op when Inductor compiles a small mask."""

    @cached_property
    def name(self) -> str:
        return self.schema.partition("(")[0]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return parse_parameters(self.schema)

    @cached_property
    def types(self) -> str:
        """The types and names of the parameters, in the format of `check_types`."""
        texts = [f"{p.type}{'?' * p.optional} {p.name}" for p in self.parameters]
        count = sum(not p.keyword_only for p in self.parameters)
        if count < len(texts):
            texts.insert(count, "*")
        return ", ".join(texts)

    @cached_property
    def valid_types(self) -> set[tuple[type, ...]]:
        """Types of arguments that have passed `check_types`."""
        return set()

    @cached_property
    def tensors(self) -> tuple[int, ...]:
        """The positions of the parameters that are tensors."""
        return tuple(i for i, p in enumerate(self.parameters) if p.type == "Tensor")

    @cached_property
    def tensors_of(self) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
        """A function that picks the tensors from all arguments."""
        first, *others = self.tensors
        return itemgetter(first, *others) if others else itemgetter(slice(first, first + 1))

    @cached_property
    def overload(self) -> Any:
        """The registered op, `torch.ops.dmask.<name>.default`."""
        return getattr(getattr(torch.ops, NAMESPACE), self.name).default

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Returns all arguments of a call by position. Adds defaults that the dispatcher drops."""
        if len(args) == len(self.parameters):
            return args
        given = dict(zip([p.name for p in self.parameters], args, strict=False)) | kwargs
        return tuple([given.get(p.name, p.default) for p in self.parameters])

    def planned(self, args: tuple[Any, ...]) -> Plan:
        """Returns the plan of a call with these arguments.

        A model repeats the same call for each layer and token, and checks cost as much as a small
        mask. Plans are therefore cached, similar to `plan` and `run` in FlashInfer.
        """
        described = list(args)
        for i in self.tensors:
            tensor = args[i]
            if isinstance(tensor, Tensor):
                # Not TensorMeta(...): its __new__ is a Python function.
                described[i] = _new_meta(TensorMeta, (tensor.shape, tensor.dtype, tensor.device))
        try:
            return _cached(self, *described)
        except TypeError:  # an unhashable argument; the checks name it
            pass
        return _checked(self, *described)


_new_meta = tuple.__new__


def _checked(spec: OpSpec, *args: Any) -> Plan:
    types = tuple(map(type, args))
    if types not in spec.valid_types:
        args = arguments.check_types(spec.types, args)
        if tuple(map(type, args)) == types:
            spec.valid_types.add(types)
    return spec.plan(*args)


# typed=True, because 2, 2.0 and True are equal but only one of them is a valid size.
_cached = lru_cache(maxsize=4096, typed=True)(_checked)
forget_plans = _cached.cache_clear


# ------------------------------------------------------------------ registration


def define(spec: OpSpec, library: Library) -> None:
    """Registers an op. This is the only caller of `torch.library`.

    The kernel runs on every device, below autograd: masks and indices have no gradient. The vmap
    rule folds the mapped dimension into the batch, which is correct for every op that treats batch
    entries independently.
    """
    qualname = f"{NAMESPACE}::{spec.name}"

    def kernel(*args: Any, **kwargs: Any) -> Any:
        args = spec.bind(args, kwargs)
        return spec.planned(args).run(*spec.tensors_of(args))

    library.define(spec.schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    library.impl(spec.name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(qualname, _fake(spec), lib=library)
    if not spec.differentiable:
        library.impl(spec.name, compat.without_gradient(spec.overload), "Autograd")  # type: ignore[no-untyped-call]
    torch.library.register_vmap(qualname, _fold_rule(spec), lib=library)
    # Dynamo reads cached properties, but cannot compute them.
    spec.types, spec.overload  # noqa: B018


def fragment() -> Library:
    """Returns a library to define ops in. Its ops live as long as the library."""
    return Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def _fake(spec: OpSpec) -> Callable[..., Any]:
    """Returns the fake kernel of an op: empty tensors of the planned shapes."""

    def fake(*args: Any, **kwargs: Any) -> Any:
        from dmask import inductor

        args = spec.bind(args, kwargs)
        like, described = args[spec.tensors[0]], [validation.describe(arg) for arg in args]
        inductor.offer(spec, like.device)
        try:
            result = spec.plan(*described).result
        except (TypeError, ValueError):
            spec.plan(*map(validation.with_hints, described))  # raises the same error, with numbers
            raise
        if isinstance(result, TensorMeta):
            return like.new_empty(result.shape, dtype=result.dtype)
        return tuple(like.new_empty(each.shape, dtype=each.dtype) for each in result)

    return fake


def _fold_rule(spec: OpSpec) -> Callable[..., Any]:
    """Returns the vmap rule of an op with tensors `[B|1, ...]`, and optionally a `batch_size`."""
    names = [parameter.name for parameter in spec.parameters]

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any, **kwargs: Any) -> Any:
        count = info.batch_size
        stacked = [
            _stack(value, dim, count) if isinstance(value, Tensor) else value
            for value, dim in zip(args, in_dims, strict=False)
        ]
        batches = [value.shape[1] for value in stacked if isinstance(value, Tensor)]
        batch = next((size for size in batches if size != 1), 1)
        folded = [
            _fold(value, count, batch) if isinstance(value, Tensor) else value for value in stacked
        ]
        if "batch_size" in names:
            folded[names.index("batch_size")] = count * batch
        result = spec.overload(*folded, **kwargs)
        if isinstance(result, Tensor):
            return _unfold(result, count, batch), 0
        return tuple(_unfold(each, count, batch) for each in result), (0,) * len(result)

    return rule


def _stack(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """Returns a tensor, mapped or not, as `[count, B|1, ...]`."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _fold(tensor: Tensor, count: int, batch: int) -> Tensor:
    """Folds `[count, B|1, ...]` to `[count * B, ...]`."""
    rest = tensor.shape[2:]
    return tensor.expand(count, batch, *rest).reshape(count * batch, *rest)


def _unfold(tensor: Tensor, count: int, batch: int) -> Tensor:
    """Undoes `_fold`."""
    return tensor.reshape(count, batch, *tensor.shape[1:])


# ------------------------------------------------------------------ schemas

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^,"\[\]]+|,')
_PARAMETER = re.compile(r"(?P<type>\S+) (?P<name>\w+)(?:=(?P<default>.*))?\Z", re.DOTALL)


def parse_parameters(schema: str) -> tuple[Parameter, ...]:
    """Parses the parameters of an op's schema.

    >>> parse_parameters('f(Tensor x, SymInt? k=None, *, str how="a,b") -> Tensor')[2]
    Parameter(name='how', type='str', optional=False, default='a,b', keyword_only=True)
    """
    inside = schema[schema.index("(") + 1 : schema.rindex(") -> ")]
    texts = [""]
    for token in _TOKEN.findall(inside):
        if token == ",":
            texts.append("")
        else:
            texts[-1] += token
    parameters, keyword_only = [], False
    for text in map(str.strip, texts):
        if text == "*":
            keyword_only = True
        elif text:
            parameters.append(_parameter(text, keyword_only))
    return tuple(parameters)


def _parameter(text: str, keyword_only: bool) -> Parameter:
    match = _PARAMETER.match(text)
    assert match is not None, text
    kind, name, default = match["type"], match["name"], match["default"]
    return Parameter(
        name,
        kind.removesuffix("?"),
        kind.endswith("?"),
        REQUIRED if default is None else ast.literal_eval(default),
        keyword_only,
    )
