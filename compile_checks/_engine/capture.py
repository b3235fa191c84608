"""The graphs themselves: a backend that keeps what Dynamo hands it, and passes it on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._dynamo.backends.registry import lookup_backend
from torch._guards import CompileContext
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

Backend = str | Callable[..., Any]


@dataclass(frozen=True)
class Capture:
    """What is kept of one graph. The graph itself is not: it would hold on to its tensors."""

    compile_id: str
    canonical: str
    ops: tuple[tuple[str, int], ...]
    overloads: tuple[torch._ops.OpOverload, ...]
    """The ops of the dispatcher that the graph calls, by their overloads."""


@dataclass
class CapturingBackend:
    """A backend of `torch.compile` that notes each graph before another backend compiles it."""

    backend: Backend
    captures: list[Capture] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Dynamo names a backend so in its errors.
        self.__name__ = name_of(self.backend)

    def __call__(self, graph: GraphModule, inputs: list[Any]) -> Any:
        compile_id = CompileContext.current_compile_id()
        self.captures.append(
            Capture(
                compile_id=str(compile_id or ""),
                canonical=canonical(graph.graph),
                ops=tuple(sorted(Counter(map(_name, _calls(graph))).items())),
                overloads=tuple(dict.fromkeys(_overloads(graph))),
            )
        )
        return lookup_backend(self.backend)(graph, inputs)

    # Dynamo keeps one cache for each backend, and looks at its identity.
    __hash__ = object.__hash__


def name_of(backend: Backend) -> str:
    """
    >>> name_of("inductor"), name_of(canonical)
    ('inductor', 'canonical')
    """
    return backend if isinstance(backend, str) else getattr(backend, "__name__", repr(backend))


def canonical(graph: Graph) -> str:
    """A graph in a form that does not depend on names: one line per node, numbered in order.

    >>> print(canonical(torch.fx.symbolic_trace(lambda x: x.sin() + 1).graph))
    %0 = input
    %1 = sin(%0)
    %2 = add(%1, 1)
    return %2
    """
    numbers: dict[Node, str] = {}
    lines = []
    for node in graph.nodes:
        args, kwargs = map_arg((node.args, node.kwargs), lambda other: _Name(numbers[other]))
        listed = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
        if node.op == "output":
            lines.append(f"return {args[0]!r}")
            continue
        numbers[node] = f"%{len(numbers)}"
        called = "input" if node.op == "placeholder" else f"{_name(node)}({listed})"
        lines.append(f"{numbers[node]} = {called}")
    return "\n".join(lines)


class _Name(str):
    """Shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _calls(graph: GraphModule) -> Iterator[Node]:
    """All calls of a graph and of the subgraphs that it runs by higher-order ops."""
    for module in graph.modules():
        if isinstance(module, GraphModule):
            yield from (node for node in module.graph.nodes if node.op.startswith("call_"))


def _overloads(graph: GraphModule) -> Iterator[torch._ops.OpOverload]:
    for node in _calls(graph):
        if isinstance(node.target, torch._ops.OpOverload):
            yield node.target
        elif isinstance(node.target, torch._ops.OpOverloadPacket):
            for overload in node.target.overloads():  # type: ignore[no-untyped-call]
                yield getattr(node.target, overload)


def _name(node: Node) -> str:
    """`sin`, `mylib.myop`: what a person would write, without the overload."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    if isinstance(target, str):
        return target
    return str(getattr(target, "__name__", target))
