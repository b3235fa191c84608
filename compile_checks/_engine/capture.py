"""A backend that records a description of each graph and passes the graph on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from compile_checks import _compat

Backend = str | Callable[..., Any]

_BUILTIN = ("aten", "prims", "prim", "higher_order", "inductor", "c10d", "_c10d_functional")


@dataclass(frozen=True)
class Capture:
    """A description of one graph. The graph itself is not kept: it would keep tensors alive."""

    compile_id: str
    canonical: str
    ops: tuple[tuple[str, int], ...]
    overloads: tuple[torch._ops.OpOverload, ...]
    """The overloads of the dispatcher's ops that the graph calls."""

    @property
    def custom_ops(self) -> tuple[torch._ops.OpOverload, ...]:
        """The overloads that are not PyTorch's own."""
        return tuple(op for op in self.overloads if op.namespace not in _BUILTIN)


@dataclass
class CapturingBackend:
    """A backend of `torch.compile` that describes each graph before another backend compiles it."""

    backend: Backend
    captures: list[Capture] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Dynamo's errors name a backend by this attribute.
        self.__name__ = name_of(self.backend)
        self._lookup = _compat.LOOKUP_BACKEND.get()

    @property
    def compiler(self) -> Backend:
        """The backend to pass to `torch.compile`: self, or the name if its function is unknown."""
        if self._lookup is None and isinstance(self.backend, str):
            return self.backend
        return self

    def __call__(self, graph: GraphModule, inputs: list[Any]) -> Any:
        compile_id = _compat.current_compile_id()
        self.captures.append(
            Capture(
                compile_id=str(compile_id or ""),
                canonical=canonical(graph.graph),
                ops=tuple(sorted(Counter(map(_name, _calls(graph))).items())),
                overloads=tuple(dict.fromkeys(_overloads(graph))),
            )
        )
        compiler: Any = self.backend if self._lookup is None else self._lookup(self.backend)
        return compiler(graph, inputs)

    # Dynamo keeps a separate cache for each backend object.
    __hash__ = object.__hash__


def name_of(backend: Backend) -> str:
    """Returns the name of a backend.

    >>> name_of("inductor"), name_of(canonical)
    ('inductor', 'canonical')
    """
    return backend if isinstance(backend, str) else getattr(backend, "__name__", repr(backend))


def canonical(graph: Graph) -> str:
    """Returns a graph as text that does not depend on variable names: one numbered line per node.

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
    """A string whose `repr` has no quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _calls(graph: GraphModule) -> Iterator[Node]:
    """Yields the calls of a graph and of the subgraphs of its higher-order ops."""
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
    """Returns the readable name of a call, such as `sin` or `mylib.myop`."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    if isinstance(target, str):
        return target
    return str(getattr(target, "__name__", target))
