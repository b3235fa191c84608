"""Every kind of graph break is found, counted and shown at its line in the user's code."""

from __future__ import annotations

import functools
import linecache
import logging

import pytest
import torch
import torch._inductor.config
from torch.torch_version import TorchVersion

from compile_checks import AuditReport, Case, Mode, audit, audit_calls, audit_modes, watch
from compile_checks._engine.breaks import gb_id
from compile_checks._engine.findings import headline
from tests.compile_checks.samples import breaks

# The number of breaks. `twice` breaks three times: where the helper is inlined for the first time, in
# the helper itself, and where it is inlined for the second time.
KINDS = {
    "branch": 1,
    "item": 1,
    "at_start": 1,
    "at_end": 1,
    "in_loop": 1,
    "twice": 3,
    "nonzero": 1,
    "disabled": 1,
}


def marked(name: str) -> list[int]:
    lines = linecache.getlines(breaks.__file__)
    return [n for n, line in enumerate(lines, 1) if line.rstrip().endswith(f"# break: {name}")]


def places(report: AuditReport) -> list[tuple[str, int]]:
    return [(graph_break.file, graph_break.line) for graph_break in report.graph_breaks]


def expected(name: str, times: int = 1) -> list[tuple[str, int]]:
    return [(breaks.__file__, line) for line in marked(name)] * times


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_found_on_its_line(name: str) -> None:
    report = audit(getattr(breaks, name), (torch.ones(3),))

    assert places(report) == expected(name, KINDS[name])
    assert all(graph_break.reason for graph_break in report.graph_breaks)
    assert all(b.source.endswith(f"# break: {name}") for b in report.graph_breaks)
    found = [(f.kind, f.file, f.line, f.count) for f in report.findings]
    skipped = [("nothing-compiled", "", 0, 1)] if name == "in_loop" else []
    assert found == [("graph-break", *expected(name)[0], KINDS[name]), *skipped]


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_a_graph_that_the_backend_rejects(backend: str, fullgraph: bool) -> None:
    """Dynamo captures the graph, but backends that trace it again need the value of an index."""
    args = torch.ones(2), torch.tensor(3)
    # PyTorch 2.15 would take the graph from the cache, if it compiled it with fullgraph before.
    with torch._inductor.config.patch(force_disable_caches=True):
        report = audit(breaks.rejected, args, backend=backend, fullgraph=fullgraph)

    compiles = fullgraph and TorchVersion(torch.__version__) >= (2, 15)
    if backend == "eager" or compiles:
        assert report.ok
        return
    (finding,) = report.findings
    times = 1 if fullgraph else 2  # in `rejected`, and in `lookup` when Python calls it
    assert (finding.kind, finding.count) == ("graph-break", times)
    assert (finding.file, finding.line) == expected("rejected")[0]
    assert places(report) == expected("rejected", times)
    before = TorchVersion(torch.__version__) < (2, 10)
    guards = fullgraph and not before
    cause = "GuardOnDataDependentSymNode" if guards else "DataDependentOutputException"
    assert headline(finding.reason).startswith(f"the backend rejected the graph: {cause}: ")
    assert "getitem" in finding.reason
    assert "torch.index_select" in finding.hint
    assert finding.gb_id == gb_id("Backend compiler exception")


def test_a_rejected_backward_pass_is_one_break() -> None:
    """PyTorch's log has four entries: it hits the break twice, and logs its own error each time."""
    args = torch.ones(3, requires_grad=True), torch.tensor([True, False, True])

    report = audit(breaks.rejected_backward, args, backward=True)

    assert places(report) == expected("rejected_backward")
    (finding,) = report.findings
    assert (finding.file, finding.line) == expected("rejected_backward")[0]
    assert "the backend rejected the graph: DynamicOutputShapeException: " in finding.reason


@pytest.mark.parametrize("name", KINDS)
def test_the_same_is_found_where_nobody_else_reads_the_trace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes PyTorch build only the records that an audit reads. By default, pytest reads all."""
    logger = logging.getLogger("torch.__trace")
    assert logger.handlers
    calls = [((torch.ones(3),), {}), ((torch.ones(4),), {})]
    with_readers = audit_calls(getattr(breaks, name), calls)

    monkeypatch.setattr(logger, "handlers", [])

    assert audit_calls(getattr(breaks, name), calls) == with_readers


@pytest.mark.parametrize(
    ("name", "headline"),
    [
        ("branch", "Data-dependent branching"),
        ("item", "Unsupported Tensor.item() call with capture_scalar_outputs=False"),
        ("at_start", "Call to `torch._dynamo.graph_break()`"),
        ("in_loop", "Call to `torch._dynamo.graph_break()`"),
        ("nonzero", "Dynamic shape operator"),
        ("disabled", "Skip calling `torch.compiler.disable()`d function"),
    ],
)
def test_the_reason_begins_with_what_happened(name: str, headline: str) -> None:
    (graph_break,) = audit(getattr(breaks, name), (torch.ones(3),)).graph_breaks

    assert graph_break.reason.splitlines()[0] == headline
    assert "Explanation:" in graph_break.reason
    assert "Traceback" not in graph_break.reason
    assert "User code traceback" not in graph_break.reason


def test_a_break_in_a_loop_says_what_it_costs() -> None:
    (graph_break,) = audit(breaks.in_loop, (torch.ones(3),)).graph_breaks
    line = breaks.in_loop.__code__.co_firstlineno

    assert graph_break.hint.splitlines()[-1] == (
        f"The break is in a loop, so all of `in_loop` (line {line}) runs in eager mode. "
        "Its other breaks show only when this one is gone."
    )
    assert "earlier graph break" not in graph_break.hint


# Since torch 2.13, exceptions have the kind of break. Before, only the headline has it.
IDS = {
    "branch": "GB0170",
    "item": "GB0124",
    "at_start": "GB0025",
    "at_end": "GB0025",
    "in_loop": "GB7000",  # a break, and one more because Dynamo cannot resume in a loop
    "twice": "GB0025",
    "nonzero": "GB0036",
    "disabled": "GB0098",
}
# Breaks that `fullgraph=True` captures since torch 2.13.
CAPTURED = ("item", "nonzero")
SINCE_2_13 = TorchVersion(torch.__version__) >= (2, 13)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_its_id_and_owner(name: str) -> None:
    (finding,) = (
        f
        for f in audit(getattr(breaks, name), (torch.ones(3),)).findings
        if f.kind == "graph-break"
    )

    ids = {IDS[name]} if SINCE_2_13 else {IDS[name], "GB0025", ""}
    assert finding.gb_id in ids
    assert finding.owner == "yours"


@pytest.mark.parametrize("dynamic", [None, True, False])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_breaks_are_the_same_in_every_mode(backend: str, dynamic: bool | None) -> None:
    report = audit(breaks.branch, (torch.ones(3),), backend=backend, dynamic=dynamic)

    assert places(report) == expected("branch")
    assert [f.kind for f in report.findings] == ["graph-break"]


@pytest.mark.parametrize("name", KINDS)
def test_fullgraph_stops_at_the_first_or_captures_it(name: str) -> None:
    case = Case(name, getattr(breaks, name), [((torch.ones(3),), {})])
    reports = audit_modes(case, [Mode(), Mode(fullgraph=True)])
    full = reports[Mode(fullgraph=True)]

    assert places(reports[Mode()]) == expected(name, KINDS[name])
    if SINCE_2_13 and name in CAPTURED:
        assert full.ok, full
    else:
        assert places(full) == expected(name)[:1]
        assert [f.kind for f in full.findings] == ["graph-break"]


@pytest.mark.parametrize("name", KINDS)
def test_what_the_counters_miss_is_explained(name: str) -> None:
    report = audit(getattr(breaks, name), (torch.ones(3),))

    assert "disagreement" not in [finding.kind for finding in report.findings]


def test_breaks_come_in_the_order_they_are_met() -> None:
    report = audit(breaks.two_breaks, (torch.ones(3),))

    assert places(report) == expected("two_breaks")
    assert len(report.graph_breaks) == 2


def test_a_break_inside_torch_is_placed_where_torch_was_called() -> None:
    report = audit(breaks.in_torch, (torch.ones(3),))

    assert report.graph_breaks
    assert set(places(report)) == set(expected("in_torch"))
    assert {graph_break.owner for graph_break in report.graph_breaks} == {"torch"}


def test_a_break_in_code_of_torch_alone_is_placed_where_it_was_called() -> None:
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3)
    clip = functools.partial(torch.nn.utils.clip_grad_norm_, error_if_nonfinite=True)
    compiled = torch.compile(clip, backend="eager")

    with watch() as watched:
        compiled([x], 1.0)  # break: caller

    caller = linecache.getlines(__file__).index("        compiled([x], 1.0)  # break: caller\n") + 1
    report = watched.report()
    assert report.graph_breaks
    assert set(places(report)) == {(__file__, caller)}


def test_a_break_in_code_of_torch_alone_is_never_placed_in_the_audit() -> None:
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3)

    report = audit(torch.nn.utils.clip_grad_norm_, ([x], 1.0), {"error_if_nonfinite": True})

    assert report.graph_breaks
    for graph_break in report.graph_breaks:
        assert graph_break.file.startswith(torch.__path__[0])
        assert graph_break.owner == "torch"


def test_a_module_is_audited_as_a_function_is() -> None:
    report = audit(breaks.Model(), (torch.ones(2, 3),), backward=True)

    assert places(report) == expected("Model")


def test_the_exception_that_the_caller_is_handling_is_not_the_break() -> None:
    try:
        torch.compile(breaks.at_start, fullgraph=True, backend="eager")(torch.ones(3))
    except torch._dynamo.exc.Unsupported:
        report = audit(breaks.branch, (torch.ones(3),))

    assert places(report) == expected("branch")
    assert report.graph_breaks[0].reason.startswith("Data-dependent branching")


def test_breaks_do_not_depend_on_the_backend() -> None:
    report = audit(breaks.item, (torch.ones(3),), backend="eager")

    assert places(report) == expected("item")


def over_lines(x):
    count = (x > 0).sum()
    y = (
        x
        + x[:count]  # break: over_lines
    )  # fmt: skip
    return y + 1


class Cut:
    def __init__(self, x):
        self.x, self.count = x, (x > 0).sum()

    @property
    def short(self):
        return self.x[: self.count]  # break: in_property


def in_property(x):
    return Cut(x).short + 1


@pytest.mark.parametrize("fn", [over_lines, in_property])
def test_a_break_from_which_dynamo_steps_back_is_placed_where_it_is(fn) -> None:
    """Dynamo's list of breaks has the first line of the statement."""
    lines = linecache.getlines(__file__)
    (marked_line,) = (n for n, s in enumerate(lines, 1) if s.endswith(f"# break: {fn.__name__}\n"))

    report = audit(fn, (torch.ones(3),))

    assert places(report) == [(__file__, marked_line)]
    assert [finding.kind for finding in report.findings] == ["graph-break"]


def test_dynamos_debug_log_stays_hidden(caplog: pytest.LogCaptureFixture) -> None:
    report = audit(over_lines, (torch.ones(3),))

    assert len(report.graph_breaks) == 1
    below = "torch._dynamo.symbolic_convert"
    assert not [r for r in caplog.records if r.name.startswith(below) and r.levelname == "DEBUG"]
