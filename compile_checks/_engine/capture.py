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
from compile_checks._engine.timing import Stopwatch

Backend = str | Callable[..., Any]

# The namespaces in which PyTorch 2.13 defines ops, apart from its tests. No API lists them.
_PYTORCH_NAMESPACES = (
    "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "_native", "_quantized", "ao",
    "aten", "bucketing", "c10d", "c10d_functional", "cplib", "debug_mode_ops", "debugprims",
    "device_mesh", "export", "flex_lib", "fsdp", "higher_order", "inductor", "inductor_prims",
    "mkl", "mkldnn", "mkldnn_prepacked", "onednn", "onnx", "onnx_symbolic", "pippy", "prim",
    "prims", "profiler", "quantization", "quantized", "quantized_decomposed", "rngprims",
    "semi_structured", "sparse", "static_runtime", "streams", "symm_mem", "torch_attn",
)  # fmt: skip


@dataclass(frozen=True)
class Capture:
    """A description of one graph. The graph itself is not kept: it would keep tensors alive."""

    compile_id: str
    canonical: str
    ops: tuple[tuple[str, int], ...]
    overloads: tuple[torch._ops.OpOverload, ...]
    """The overloads of the dispatcher's ops that the graph calls. For a packet, all its overloads:
    the graph does not say which one runs.
    """

    @property
    def custom_ops(self) -> tuple[torch._ops.OpOverload, ...]:
        """The overloads that are not PyTorch's own."""
        return tuple(op for op in self.overloads if op.namespace not in _PYTORCH_NAMESPACES)


# Dynamo reuses code that an equal backend compiled, and this backend would then capture nothing.
@dataclass(eq=False)
class CapturingBackend:
    """A backend of `torch.compile` that describes each graph before another backend compiles it."""

    backend: Backend
    captures: list[Capture] = field(default_factory=list)
    stopwatch: Stopwatch | None = None
    """Stamps the runs of the graphs, if given."""

    def __post_init__(self) -> None:
        # Dynamo's errors name a backend by this attribute.
        self.__name__ = backend_name(self.backend)
        self._lookup = _compat.LOOKUP_BACKEND.get()

    @property
    def compiler(self) -> Backend:
        """The backend to pass to `torch.compile`: self, or the name if its function is unknown."""
        if self._lookup is None and isinstance(self.backend, str):
            return self.backend
        return self

    def __call__(self, module: GraphModule, inputs: list[Any]) -> Any:
        compile_id = str(_compat.current_compile_id() or "")
        self.captures.append(
            Capture(
                compile_id=compile_id,
                canonical=canonical(module),
                ops=tuple(sorted(Counter(map(_op_name, _calls(module))).items())),
                overloads=tuple(dict.fromkeys(_overloads(module))),
            )
        )
        compiler: Any = self.backend if self._lookup is None else self._lookup(self.backend)
        compiled = compiler(module, inputs)
        return compiled if self.stopwatch is None else self.stopwatch.watching(compile_id, compiled)


def backend_name(backend: Backend) -> str:
    """Returns the name of a backend.

    >>> backend_name("inductor"), backend_name(canonical)
    ('inductor', 'canonical')
    """
    return backend if isinstance(backend, str) else getattr(backend, "__name__", repr(backend))


def canonical(module: GraphModule) -> str:
    """Returns a graph as text that does not depend on variable names: one numbered line per node.

    The subgraphs of higher-order ops follow, each under its name.

    >>> print(canonical(torch.fx.symbolic_trace(lambda x: x.sin() + 1)))
    %0 = input
    %1 = sin(%0)
    %2 = add(%1, 1)
    return %2
    """
    lines: list[str] = []
    for name, graph in _graphs(module):
        lines += [f"{name}:", *(f"    {line}" for line in _lines(graph))] if name else _lines(graph)
    return "\n".join(lines)


def _lines(graph: Graph) -> Iterator[str]:
    numbers: dict[Node, str] = {}
    for node in graph.nodes:
        args, kwargs = map_arg((node.args, node.kwargs), lambda other: _Unquoted(numbers[other]))
        arguments = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
        if node.op == "output":
            yield f"return {args[0]!r}"
            continue
        numbers[node] = f"%{len(numbers)}"
        expression = "input" if node.op == "placeholder" else f"{_op_name(node)}({arguments})"
        yield f"{numbers[node]} = {expression}"


class _Unquoted(str):
    """A string whose `repr` has no quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _graphs(module: GraphModule) -> Iterator[tuple[str, Graph]]:
    """Yields the graph of a module, named "", and the named subgraphs of its higher-order ops."""
    for name, part in module.named_modules():
        if isinstance(part, GraphModule):
            yield name, part.graph


def _calls(module: GraphModule) -> Iterator[Node]:
    for _, graph in _graphs(module):
        yield from (node for node in graph.nodes if node.op.startswith("call_"))


def _overloads(module: GraphModule) -> Iterator[torch._ops.OpOverload]:
    for node in _calls(module):
        if isinstance(node.target, torch._ops.OpOverload):
            yield node.target
        elif isinstance(node.target, torch._ops.OpOverloadPacket):
            for overload in node.target.overloads():  # type: ignore[no-untyped-call]
                yield getattr(node.target, overload)


def _op_name(node: Node) -> str:
    """Returns the readable name of a call, such as `sin` or `mylib.myop`."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    if isinstance(target, torch._ops.OpOverloadPacket):
        return str(target)
    if isinstance(target, str):
        return target
    return str(getattr(target, "__name__", target))
