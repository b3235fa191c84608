"""The optional checks. Those that need a GPU run with a mock."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import get_compilation_metrics
from torch._inductor.cudagraph_utils import log_cudagraph_skip_and_bump_counter

from compile_checks import AuditReport, audit
from compile_checks._engine import gates
from compile_checks._engine.findings import Finding
from compile_checks._engine.gates import GATES
from compile_checks._engine.recording import record
from compile_checks.rules import cudagraph_skip, host_sync

X = torch.ones(3)


@pytest.fixture
def library() -> Iterator[torch.library.Library]:
    with torch.library._scoped_library("audit_gates", "FRAGMENT") as made:
        yield made


def define(library: torch.library.Library, name: str, *, tag: bool, fake: bool = True) -> None:
    tags = (torch.Tag.pt2_compliant_tag,) if tag else ()
    library.define(f"{name}(Tensor x) -> Tensor", tags=tags)
    library.impl(name, lambda x: x.clone(), "CompositeExplicitAutograd")
    if fake:
        library._register_fake(name, torch.empty_like)


def kinds(report: AuditReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def test_an_unknown_gate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown gate 'pt3'; expected one of \('cudagraph', "):
        audit(torch.sin, (X,), gates=["pt3"])


def test_cudagraphs_need_inductor() -> None:
    with pytest.raises(
        ValueError, match="gate 'cudagraph' requires backend 'inductor', got 'eager'"
    ):
        audit(torch.sin, (X,), gates=["cudagraph"], backend="eager")


# ------------------------------------------------------------------ ops


def test_an_op_without_the_pt2_tag_is_found(library: torch.library.Library) -> None:
    define(library, "tagged", tag=True)
    define(library, "untagged", tag=False)

    def both(x: Tensor) -> Tensor:
        x = torch.ops.audit_gates.tagged(x)
        return torch.ops.audit_gates.untagged(torch.ops.audit_gates.untagged.default(x)) + 1

    report = audit(both, (X,))

    assert [str(finding) for finding in report.findings] == [
        "not-pt2-compliant: audit_gates.untagged.default has no pt2_compliant_tag"
    ]
    assert audit(both, (X,), gates=()).ok


def test_opcheck_gets_the_inputs_of_the_graph(library: torch.library.Library) -> None:
    define(library, "good", tag=True)
    library.define("wrong(Tensor x) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
    library.impl("wrong", lambda x: x.clone(), "CompositeExplicitAutograd")
    # This is correct for three elements and wrong otherwise.
    library._register_fake(
        "wrong", lambda x: torch.empty_like(x) if x.numel() == 3 else x.new_empty(1)
    )

    def calls(x: Tensor) -> Tensor:
        return torch.ops.audit_gates.wrong(torch.ops.audit_gates.good(x)).sum()

    def on(size: int) -> AuditReport:
        return audit(calls, (torch.ones(size),), gates=["opcheck"], backend="eager")

    assert on(3).ok
    assert audit(calls, (torch.ones(4),), gates=(), backend="eager").ok
    report = on(4)
    assert set(kinds(report)) == {"opcheck"}
    assert all("audit_gates.wrong.default: test_" in f.reason for f in report.findings)


def test_ops_of_torch_are_not_checked() -> None:
    assert audit(lambda x: x.softmax(0) @ x, (X,), gates=["opcheck", "pt2"]).ok


@pytest.mark.parametrize("namespace", ["aten", "fsdp", "quantized_decomposed", "symm_mem"])
def test_namespaces_of_torch_are_not_checked(namespace: str) -> None:
    with torch.library._scoped_library(namespace, "FRAGMENT") as library:
        define(library, "untagged", tag=False)
        op = getattr(torch.ops, namespace).untagged.default
        report = audit(lambda x: op(x), (X,), gates=["pt2"], backend="eager")
    assert report.ok
    assert report.captured_graphs[0].ops == ((f"{namespace}.untagged", 1),)


# ------------------------------------------------------------------ export


def test_code_that_can_be_exported_passes() -> None:
    assert audit(torch.nn.Linear(3, 3), (X,), gates=["export"]).ok
    assert audit(lambda x, *, scale: x * scale, (X,), {"scale": 2}, gates=["export"]).ok


def test_code_that_cannot_be_exported_is_found() -> None:
    def branch(x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    report = audit(branch, (X,), gates=["export"])

    assert kinds(report) == ["graph-break", "export"]
    assert report.findings[1].reason.startswith(("GuardOnDataDependentSymNode", "UserError"))


@pytest.mark.parametrize("gate", ["export", "opcheck"])
def test_a_gate_without_copies_of_the_inputs_says_so(gate: str) -> None:
    report = audit(lambda x, lock: x + 1, (X, threading.Lock()), gates=[gate], compare=False)

    (note,) = report.notes
    assert note.startswith(f"{gate}: not checked: the inputs cannot be copied: ")


def test_export_leaves_the_inputs_alone() -> None:
    cache = torch.zeros(3)

    audit(lambda x, cache: cache.add_(x) + 1, (X, cache), gates=["export", "opcheck"])

    assert cache.tolist() == [2.0, 2.0, 2.0]  # the two calls of the audit


# ------------------------------------------------------------------ the expected graph

GRAPH = """\
%0 = input
%1 = mul(%0, 2)
%2 = sin(%1)
return (%2,)"""


def named(some_name: Tensor) -> Tensor:
    doubled = some_name * 2
    return doubled.sin()


def test_the_expected_graph_passes() -> None:
    assert audit(named, (X,)).captured_graphs[0].canonical == GRAPH
    assert audit(named, (X,), expected_graph=GRAPH).ok
    assert audit(named, (X,), expected_graph={"mul": 1, "sin": 1}).ok


def test_names_do_not_matter() -> None:
    def other(x: Tensor) -> Tensor:
        return torch.Tensor.sin(x * 2)

    assert (
        audit(other, (X,)).captured_graphs[0].canonical.splitlines()[:2] == GRAPH.splitlines()[:2]
    )


def test_a_branch_of_cond_is_part_of_the_graph() -> None:
    def audit_branch(branch: Callable[[Tensor], Tensor], **options: Any) -> AuditReport:
        def choose(x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, branch, torch.cos, (x,))

        return audit(choose, (X,), backend="eager", **options)

    sin = audit_branch(torch.sin).captured_graphs[0].canonical
    tan = audit_branch(torch.tan).captured_graphs[0].canonical
    assert "\ncond_true_0:\n    %0 = input\n    %1 = sin(%0)\n    return " in sin
    assert "\ncond_false_0:\n    %0 = input\n    %1 = cos(%0)\n    return " in sin
    assert sin.replace(" sin(", " tan(") == tan
    assert audit_branch(torch.sin, expected_graph=sin).ok
    report = audit_branch(torch.tan, expected_graph=sin)
    assert kinds(report) == ["graph-snapshot"]
    assert "\n-    %1 = sin(%0)\n+    %1 = tan(%0)\n" in report.findings[0].reason


def test_another_graph_is_shown_beside_the_expected_one() -> None:
    text = audit(named, (X,), expected_graph=GRAPH.replace("2)", "3)"))
    counts = audit(named, (X,), expected_graph={"mul": 2})

    assert kinds(text) == kinds(counts) == ["graph-snapshot"]
    assert "\n-%1 = mul(%0, 3)\n+%1 = mul(%0, 2)\n" in text.findings[0].reason
    assert "\n-mul: 2\n+mul: 1\n+sin: 1" in counts.findings[0].reason


# ------------------------------------------------------------------ CUDA


def test_gates_that_need_a_gpu_say_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "has_gpu", lambda: False)

    report = audit(torch.sin, (X,), gates=GATES, backend="inductor", compare=False)

    assert report.notes == (
        "cudagraph: not checked: there is no CUDA device",
        "host-sync: not checked: there is no CUDA device",
    )


@pytest.fixture
def sync_modes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Returns the values that the debug mode was set to, on a machine without a GPU."""
    modes: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    return modes


def test_a_host_sync_is_placed(sync_modes: list[object]) -> None:
    found: list[Finding] = []
    shown = warnings.showwarning
    with host_sync.check(found):
        assert sync_modes == ["warn"]
        for _ in range(2):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)  # here

    assert sync_modes == ["warn", 0]
    assert warnings.showwarning is shown
    (finding,) = found
    assert (finding.kind, finding.file, finding.count) == ("host-sync", __file__, 2)
    assert finding.source.endswith("# here")


def test_the_debug_mode_itself_is_no_host_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The debug mode warns about itself in similar words."""
    text = (
        "Synchronization debug mode is a prototype and does not detect all synchronizing operations"
    )
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: warnings.warn(text))  # noqa: B028
    found: list[Finding] = []
    with pytest.warns(UserWarning, match="prototype"), host_sync.check(found):
        pass
    assert found == []


def test_a_host_sync_of_which_no_warning_tells_is_found(sync_modes: list[object]) -> None:
    def waits() -> None:
        if sync_modes[-1] == "error":
            raise RuntimeError("called a synchronizing CUDA operation")  # here

    (finding,) = host_sync.check_call(waits)

    assert sync_modes == ["error", 0]
    assert finding.kind == "host-sync"
    assert finding.source.endswith("# here")
    assert [*host_sync.check_call(lambda: None)] == []
    with pytest.raises(RuntimeError, match="something else"):
        next(host_sync.check_call(functools.partial(_fail, "something else")))
    assert sync_modes[-1] == 0


def _fail(reason: str) -> None:
    raise RuntimeError(reason)


@pytest.mark.usefixtures("sync_modes")
def test_other_warnings_are_shown_as_ever() -> None:
    found: list[Finding] = []

    def warned() -> None:
        with host_sync.check(found):
            warnings.warn("something else", stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        warned()
    assert found == []


def test_the_debug_mode_is_put_back_after_an_error(sync_modes: list[object]) -> None:
    with pytest.raises(ZeroDivisionError), host_sync.check([]):
        _ = 1 / 0

    assert sync_modes == ["warn", 0]


def test_syncs_are_watched_in_the_second_round(
    monkeypatch: pytest.MonkeyPatch, sync_modes: list[object]
) -> None:
    monkeypatch.setattr(gates, "has_gpu", lambda: True)
    synchronizing = torch.compiler.disable(
        lambda: warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    )

    def fn(x: Tensor) -> Tensor:
        if sync_modes:
            synchronizing()
        return x + 1

    report = audit(fn, (X,), gates=["host-sync"], compare=False)

    assert sync_modes == ["warn", 0]
    assert kinds(report).count("host-sync") == 1


def test_a_hidden_sync_is_looked_for_in_a_third_round(
    monkeypatch: pytest.MonkeyPatch, sync_modes: list[object]
) -> None:
    monkeypatch.setattr(gates, "has_gpu", lambda: True)

    def synchronizing() -> None:
        if sync_modes[-1:] == ["error"]:
            raise RuntimeError("called a synchronizing CUDA operation")

    def fn(x: Tensor) -> Tensor:
        torch.compiler.disable(synchronizing)()
        return x + 1

    report = audit(fn, (X,), gates=["host-sync"], compare=False)

    assert sync_modes == ["warn", 0, "error", 0]
    assert kinds(report).count("host-sync") == 1


def test_a_graph_that_is_compiled_without_cudagraph_is_found() -> None:
    def skipping(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        log_cudagraph_skip_and_bump_counter("mutated inputs")
        return graph.forward

    def fn(x: Tensor) -> Tensor:
        return x + 1

    found: list[Finding] = []
    with record() as trace, cudagraph_skip.check(found, trace.compilations):
        torch.compile(fn, backend=skipping)(X)
    (finding,) = found

    assert (finding.kind, finding.reason) == ("cudagraph-skip", "mutated inputs")
    assert (finding.file, finding.line) == (__file__, fn.__code__.co_firstlineno)
    assert get_compilation_metrics()[-1].cudagraph_skip_reason == "mutated inputs"


def skipped_at_run_time() -> AuditReport:
    """Mocks a GPU on which Inductor reports its reason while a graph runs."""
    skip = torch.compiler.disable(lambda: log_cudagraph_skip_and_bump_counter("mutated inputs"))

    def fn(x: Tensor) -> Tensor:
        skip()
        return x + 1

    return audit(fn, (X,), gates=["cudagraph"], backend="inductor", compare=False)


def test_a_graph_that_runs_without_cudagraph_is_found() -> None:
    report = skipped_at_run_time()

    (finding,) = (f for f in report.findings if f.kind == "cudagraph-skip")
    assert (finding.reason, finding.count) == ("mutated inputs", 2)
