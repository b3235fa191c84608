"""Checks beside graph breaks and recompiles, each of which can be asked for by name."""

from __future__ import annotations

import difflib
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal, get_args
from unittest import mock

import torch
from torch._dynamo.utils import get_metrics_context
from torch._guards import CompileContext
from torch._inductor import cudagraph_utils
from torch.utils._python_dispatch import TorchDispatchMode

from compile_checks._engine.capture import Backend, Capture
from compile_checks._engine.findings import CapturedGraph, Finding
from compile_checks._engine.places import Place, place_of, place_of_error
from compile_checks._engine.scenarios import Step
from compile_checks._engine.trace import Compilation

Gate = Literal["cudagraph", "export", "host-sync", "opcheck", "pt2"]
GATES: Final[tuple[Gate, ...]] = get_args(Gate)
DEFAULT_GATES: Final[tuple[Gate, ...]] = ("pt2",)
"""Those that cost nothing."""
CUDA_GATES: Final[tuple[Gate, ...]] = ("cudagraph", "host-sync")
"""Those that need a GPU."""

ExpectedGraph = str | Mapping[str, int]
"""The canonical text of all graphs, an empty line between two; or how often they call each op."""

_BUILTIN = ("aten", "prims", "prim", "higher_order", "inductor", "c10d", "_c10d_functional")


def check_names(gates: Iterable[str], backend: Backend) -> None:
    """Raises a `ValueError` for a gate that there is not, or that the backend cannot pass."""
    for gate in gates:
        if gate not in GATES:
            raise ValueError(f"unknown gate {gate!r}; expected some of {GATES}")
        if gate == "cudagraph" and backend != "inductor":
            raise ValueError(f"gate 'cudagraph' needs backend 'inductor', got {backend!r}")


def has_gpu() -> bool:
    return torch.cuda.is_available()


def not_compliant(captures: Iterable[Capture]) -> Iterator[Finding]:
    """Ops whose author has not said that they are fit for torch.compile."""
    overloads = dict.fromkeys(op for capture in captures for op in capture.overloads)
    for op in overloads:
        if torch.Tag.pt2_compliant_tag not in op.tags and op.namespace not in _BUILTIN:
            hint = "check it by torch.library.opcheck, then tag it torch.Tag.pt2_compliant_tag"
            yield Finding("not-pt2-compliant", f"{op} has no pt2_compliant_tag", hint)


def export_failure(fn: Callable[..., Any], step: Step) -> Iterator[Finding]:
    """Whether `torch.export.export` takes the code with the inputs of one call."""
    module = fn if isinstance(fn, torch.nn.Module) else _Module(fn)
    try:
        torch.export.export(module, tuple(step.args), dict(step.kwargs))
    except Exception as error:
        hint = "torch.export needs one graph of all the code, whatever the data"
        finding = Finding("export", f"{type(error).__name__}: {str(error).strip()}", hint)
        yield place_of_error(error).of(finding)


class _Module(torch.nn.Module):
    """A function as the module that `torch.export` asks for."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        self._fn = fn

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._fn(*args, **kwargs)


def opcheck_failures(
    fn: Callable[..., Any], step: Step, captures: Iterable[Capture]
) -> Iterator[Finding]:
    """`torch.library.opcheck` of the custom ops in the graphs, with the inputs that they are given.

    The code is run once in eager mode to see these inputs.
    """
    wanted = {op for capture in captures for op in capture.overloads if _is_custom(op)}
    with _Recorder(wanted) as recorder, torch.compiler.set_stance("force_eager"):
        fn(*step.args, **step.kwargs)
    for op, args, kwargs in recorder.calls:
        results = torch.library.opcheck(op, args, kwargs, raise_exception=False)
        for utility, error in results.items():
            if error != "SUCCESS":
                hint = "https://docs.pytorch.org/docs/stable/library.html#torch.library.opcheck"
                yield Finding("opcheck", f"{op}: {utility}: {error}", hint)


def _is_custom(op: torch._ops.OpOverload) -> bool:
    return op.namespace not in _BUILTIN


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the inputs of the first call of each of some ops."""

    def __init__(self, wanted: set[torch._ops.OpOverload]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = wanted
        self.calls: list[tuple[torch._ops.OpOverload, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._wanted:
            self._wanted.remove(func)
            inputs = torch.utils._pytree.tree_map_only(torch.Tensor, _detached, (args, kwargs))
            self.calls.append((func, *inputs))
        return func(*args, **kwargs)


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


_SYNCED = "called a synchronizing CUDA operation"


@contextmanager
def host_syncs(found: list[Finding]) -> Iterator[None]:
    """Adds what makes the host wait for the GPU within a block, once for each place."""
    before, show = torch.cuda.get_sync_debug_mode(), warnings.showwarning
    places: Counter[Any] = Counter()

    def note(message: Any, category: Any, filename: Any, *rest: Any) -> None:
        if _SYNCED in str(message):  # the mode warns of itself, too
            places[place_of(traceback.extract_stack(sys._getframe(1)))] += 1
        else:
            show(message, category, filename, *rest)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found += [_host_sync(place, count) for place, count in places.items()]


def hidden_host_sync(call: Callable[[], object]) -> Iterator[Finding]:
    """The first place in a call where the host waits for the GPU, where an error can tell of it.

    A compiled graph calls its ops past Python's warnings: `host_syncs` does not hear of those.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if _SYNCED not in str(error):
            raise
        yield _host_sync(place_of_error(error))
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _host_sync(place: Place, count: int = 1) -> Finding:
    hint = "keep the value on the GPU, or copy it with non_blocking=True"
    return place.of(Finding("host-sync", "the host waits for the GPU here", hint, count=count))


@contextmanager
def cudagraph_skips(found: list[Finding], compilations: Iterable[Compilation]) -> Iterator[None]:
    """Adds why Inductor leaves graphs out of CUDA graphs within a block: a finding for each reason,
    at the one of the block's `compilations` that it came with.

    Inductor hands a reason to the metrics of the compilation in progress. Where a graph turns out
    unfit as it runs there is none, and the reason would be lost.
    """
    reasons: Counter[tuple[str, str]] = Counter()
    metrics_context = partial(_Metrics, reasons)
    with mock.patch.object(cudagraph_utils, "get_metrics_context", metrics_context):
        try:
            yield
        finally:
            by_id = {c.compile_id: c for c in compilations}
            for (reason, compile_id), count in reasons.items():
                c = by_id.get(compile_id, Compilation())
                found.append(
                    Finding("cudagraph-skip", reason, file=c.file, line=c.line, count=count)
                )


class _Metrics:
    """The metrics in progress as Inductor's CUDA graphs see them: always there."""

    def __init__(self, reasons: Counter[tuple[str, str]]) -> None:
        self._reasons, self._actual = reasons, get_metrics_context()

    def in_progress(self) -> bool:
        return True

    def set(self, metric: str, value: Any, overwrite: bool = False) -> None:
        current = CompileContext.current_compile_id()
        compile_id = f"{current.frame_id}/{current.frame_compile_id}" if current else ""
        self._reasons[value, compile_id] += 1
        if self._actual.in_progress():
            self._actual.set(metric, value, overwrite=overwrite)


def unlike_expected(graphs: Iterable[CapturedGraph], expected: ExpectedGraph) -> Iterator[Finding]:
    """What of the captured graphs is not as expected."""
    graphs = [*graphs]
    if isinstance(expected, str):
        actual = "\n\n".join(graph.canonical for graph in graphs)
        was, now = expected.strip().splitlines(), actual.splitlines()
    else:
        counts: Counter[str] = Counter()
        for graph in graphs:
            counts.update(dict(graph.ops))
        was = [f"{op}: {count}" for op, count in sorted(expected.items())]
        now = [f"{op}: {count}" for op, count in sorted(counts.items())]
    if was != now:
        lines = difflib.unified_diff(was, now, "expected", "captured", lineterm="")
        reason = "\n".join(["the captured graph is not the expected one", *lines])
        yield Finding("graph-snapshot", reason, hint="look at the change, then expect it")
