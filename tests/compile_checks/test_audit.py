"""Findings other than graph breaks, and the state that an audit restores."""

from __future__ import annotations

import dataclasses
import json
import logging
import logging.config
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch._dynamo.config
from torch import Tensor, nn
from torch._dynamo import eval_frame
from torch.torch_version import TorchVersion

import compile_checks
from compile_checks import (
    KINDS,
    AuditReport,
    Case,
    Finding,
    Mode,
    audit,
    audit_calls,
    overhead,
    watch,
)
from compile_checks._engine import findings
from compile_checks._engine.capture import CapturingBackend
from compile_checks._engine.recording import record
from tests.compile_checks.samples import breaks


def kinds(report: AuditReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def double(x: Tensor) -> Tensor:
    return x * 2


def on_shapes(*sizes: int) -> list[Any]:
    return [((torch.ones(size),), {}) for size in sizes]


# ------------------------------------------------------------------ verdicts


@pytest.mark.parametrize("dynamic", [None, True, False])
def test_clean_code_gives_a_clean_report(dynamic: bool | None) -> None:
    report = audit(double, (torch.ones(3),), dynamic=dynamic)

    assert report == AuditReport(graphs=1)
    assert report.ok
    assert str(report) == "ok"


def test_keyword_arguments_are_passed_on() -> None:
    assert audit(torch.nn.Linear(3, 3), kwargs={"input": torch.ones(2, 3)}).ok


@pytest.mark.parametrize("fn", [lambda x: 3, lambda x: x])
def test_nothing_compiled_is_a_finding(fn: Callable[..., Any]) -> None:
    report = audit(fn, (torch.ones(3),))

    assert report == AuditReport(
        findings=(Finding("nothing-compiled", "no graph was compiled"),),
    )
    assert not report.ok


def test_a_compiler_that_is_switched_off_is_a_finding() -> None:
    with torch.compiler.set_stance("force_eager"):
        assert kinds(audit(double, (torch.ones(3),))) == ["nothing-compiled"]


def test_compile_has_no_effect_on_a_module_of_pytorchs_own() -> None:
    """The fix of `nothing-compiled` says so. Torch 2.15 compiles it."""
    has_effect = TorchVersion(torch.__version__) >= (2, 15)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with watch() as watched:
        model.compile(backend="eager")
        model(torch.ones(3))
    assert kinds(watched.report()) == ([] if has_effect else ["nothing-compiled"])
    torch.compiler.reset()  # the wrapper that torch 2.15 compiles is the same for both
    with watch() as watched:
        torch.compile(torch.nn.Sequential(*model), backend="eager")(torch.ones(3))
    assert watched.report().ok


def test_a_block_that_only_runs_compiled_code_says_how_to_compile_it_again() -> None:
    """As in a cell of a notebook that runs a second time."""
    compiled = torch.compile(double, backend="eager")
    with watch() as watched:
        compiled(torch.ones(3))
    assert repr(watched) == "<Watch: <AuditReport: 1 graph, 0 graph breaks, 0 recompiles: ok>>"

    with watch() as watched:
        compiled(torch.ones(3))
    (finding,) = watched.report().findings
    assert "unless torch.compiler.reset() is called first" in finding.hint

    torch.compiler.reset()
    with watch() as watched:
        compiled(torch.ones(3))
    assert watched.report().ok


def test_a_recompile_of_the_same_inputs_is_a_finding() -> None:
    calls: list[int] = []

    def counting(x: Tensor) -> Tensor:
        calls.append(0)
        return x + len(calls)

    report = audit(counting, (torch.ones(3),))

    assert report.graphs == 2
    (recompile,) = report.recompiles
    assert "calls" in recompile.reasons[0]
    assert (recompile.file, recompile.line) == (__file__, counting.__code__.co_firstlineno)
    (finding,) = report.findings
    assert (finding.kind, finding.file, finding.source) == (
        "recompile",
        recompile.file,
        "calls.append(0)",
    )


def test_every_reason_of_a_recompile_is_kept() -> None:
    report = audit_calls(double, on_shapes(3, 4, 5), dynamic=False)

    assert [len(recompile.reasons) for recompile in report.recompiles] == [1, 2]
    assert all("size mismatch" in r for c in report.recompiles for r in c.reasons)


def test_a_budget_allows_recompiles_up_to_its_graphs() -> None:
    calls = on_shapes(3, 4, 5, 6)

    within = audit_calls(double, calls, max_graphs=2)
    beyond = audit_calls(double, calls, max_graphs=1)
    without = audit_calls(double, calls)

    assert within.ok
    assert (within.graphs, len(within.recompiles)) == (2, 1)
    assert str(beyond) == "graph-budget: 2 graphs compiled, at most 1 expected"
    assert kinds(without) == ["recompile"]
    assert audit_calls(double, calls, dynamic=True, max_graphs=1).ok


def test_falling_back_past_the_recompile_limit_is_a_finding() -> None:
    with torch._dynamo.config.patch(recompile_limit=2):
        report = audit_calls(double, on_shapes(3, 4, 5), dynamic=False, max_graphs=9)

    assert report.graphs == 2
    (finding,) = report.findings
    assert finding.kind == "recompile-limit"
    assert "size mismatch" in finding.reason
    assert (finding.file, finding.line) == (__file__, double.__code__.co_firstlineno)


def test_a_frame_that_dynamo_gave_up_on_is_a_finding() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("this backend takes nothing")

    with torch._dynamo.config.patch(suppress_errors=True):
        report = audit(double, (torch.ones(3),), backend=broken)

    assert report.graphs == 0
    assert kinds(report) == ["fallback", "nothing-compiled"]
    assert "this backend takes nothing" in report.findings[0].reason
    assert report.findings[0].file == __file__


@pytest.mark.parametrize("setting", ["error_on_recompile", "fail_on_recompile_limit_hit"])
def test_what_the_caller_has_dynamo_raise_is_reported(setting: str) -> None:
    with torch._dynamo.config.patch({setting: True, "recompile_limit": 1}):
        report = audit_calls(double, on_shapes(3, 4), dynamic=False)
        assert getattr(torch._dynamo.config, setting)

    assert kinds(report) == ["recompile-limit"]


# ------------------------------------------------------------------ backward


def test_backward_is_run_for_both_calls() -> None:
    x = torch.ones(3, requires_grad=True)

    report = audit(lambda x: (x * 3, {"mask": x > 0, "other": x.detach()}), (x,), backward=True)

    assert report.ok
    assert x.grad is not None
    assert x.grad.tolist() == [6.0, 6.0, 6.0]


def test_without_backward_there_are_no_gradients() -> None:
    x = torch.ones(3, requires_grad=True)

    assert audit(double, (x,)).ok
    assert x.grad is None


def test_nothing_to_back_propagate_is_a_finding() -> None:
    report = audit(lambda x: x > 0, (torch.ones(3),), backward=True)

    assert report.graphs == 1
    assert kinds(report) == ["no-gradient"]


# ------------------------------------------------------------------ state


def loggers() -> dict[str, Any]:
    found = [*logging.Logger.manager.loggerDict.values(), logging.getLogger()]
    return {
        logger.name: ([*logger.handlers], logger.level, logger.propagate, logger.disabled)
        for logger in found
        if isinstance(logger, logging.Logger)
    }


class Once(logging.Handler):
    """Removes itself at its first record, as torch's own handler does."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("torch.__trace").removeHandler(self)


@contextmanager
def unchanged() -> Iterator[None]:
    """Asserts that a block restores the settings of the compiler and of logging.

    This is not a fixture, because pytest adds its handlers to all loggers when it calls a test. New
    loggers belong to modules that PyTorch imports within the block.
    """
    logger = logging.getLogger("torch.__trace")
    once = Once()
    logger.handlers.insert(0, once)
    logger.setLevel(logging.ERROR)
    logger.disabled = True
    try:
        config, before = torch._dynamo.config.get_config_copy(), loggers()
        yield
        assert torch._dynamo.config.get_config_copy() == config
        assert {name: logger for name, logger in loggers().items() if name in before} == before
    finally:
        logger.removeHandler(once)
        logger.setLevel(logging.DEBUG)
        logger.disabled = False


@unchanged()
def test_state_is_as_before() -> None:
    assert kinds(audit(breaks.item, (torch.ones(3),))) == ["graph-break"]


@unchanged()
def test_an_exception_is_its_own_and_state_is_as_before() -> None:
    class OwnError(Exception):
        pass

    def fails(x: Tensor) -> Tensor:
        x = x + 1
        raise OwnError(f"no {len(x)}")

    with pytest.raises(OwnError, match=r"^no 3$"):
        audit(fails, (torch.ones(3),))


@unchanged()
def test_watch_leaves_state_as_before_on_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), watch():
        _ = 1 / 0


def changing(*, raising: bool) -> Callable[[Tensor], Tensor]:
    """Returns code that changes Dynamo's configuration and stance."""

    @torch.compiler.disable
    def change() -> None:
        torch._dynamo.config.recompile_limit += 5
        torch._dynamo.config.suppress_errors = True
        torch.compiler.set_stance("eager_on_recompile")

    def changes(x: Tensor) -> Tensor:
        change()
        if raising:
            raise ZeroDivisionError
        return x + 1

    return changes


@pytest.mark.parametrize("raising", [False, True])
@unchanged()
def test_what_the_audited_code_sets_is_put_back(raising: bool) -> None:
    before = eval_frame._stance
    with pytest.raises(ZeroDivisionError) if raising else nullcontext():
        audit(changing(raising=raising), (torch.ones(3),), compare=False)

    assert eval_frame._stance == before


@pytest.mark.parametrize("stance", ["fail_on_recompile", "eager_on_recompile"])
def test_a_stance_that_hides_recompiles_is_set_aside(stance: str) -> None:
    with torch.compiler.set_stance(stance):
        report = audit_calls(double, on_shapes(3, 4), dynamic=False)
        assert eval_frame._stance.stance == stance

    assert kinds(report) == ["recompile"]
    assert eval_frame._stance.stance == "default"


def test_where_warnings_are_errors_dynamos_are_findings() -> None:
    def sleeps(x: Tensor) -> Tensor:
        time.sleep(0)  # Dynamo warns that it cannot trace this
        return x + 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = [*warnings.filters]
        report = audit(sleeps, (torch.ones(3),))
        assert warnings.filters == before

    assert kinds(report) == ["graph-break"]


def test_a_handler_added_meanwhile_stays() -> None:
    logger = logging.getLogger("torch.__trace")
    handler = logging.NullHandler()
    try:
        with watch():
            logger.addHandler(handler)
        assert handler in logger.handlers
    finally:
        logger.removeHandler(handler)


def test_an_audit_does_not_depend_on_what_was_compiled_before() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        torch.compile(double, backend="aot_eager", dynamic=False)(torch.ones(3))
        assert audit(double, (torch.ones(4),)).ok
        with watch() as watched:
            torch.compile(double, backend="aot_eager")(torch.ones(4))
    assert watched.report().ok  # and no compiled code remains


def built_records(*handlers: logging.Handler) -> set[str]:
    """Returns the kinds of records that PyTorch builds during an audit."""
    logger, built = logging.getLogger("torch.__trace"), set()

    def note(record: logging.LogRecord) -> bool:
        built.update(key for key in vars(record)["metadata"] if key in BUILT)
        return True

    before = logger.handlers
    logger.handlers = [*handlers]
    logger.addFilter(note)
    try:
        assert audit(double, (torch.ones(3),)).graphs == 1
    finally:
        logger.removeFilter(note)
        logger.handlers = before
    return built


BUILT = (
    "dynamo_start",
    "dynamo_output_graph",
    "compilation_metrics",
    "aot_inference_graph",
    "chromium_event",
    "artifact",
)


def test_records_that_nobody_reads_are_not_built() -> None:
    assert built_records() == {"dynamo_start", "dynamo_output_graph", "compilation_metrics"}


def test_whoever_else_reads_the_trace_gets_all_of_it() -> None:
    assert built_records(logging.NullHandler()) == set(BUILT)


def test_the_debug_log_is_read_only_where_the_trace_has_not_all_breaks() -> None:
    with watch():
        read = "handle" in vars(DEBUG_LOGGER)

    assert read == (TorchVersion(torch.__version__) < (2, 10))
    assert "handle" not in vars(DEBUG_LOGGER)


DEBUG_LOGGER = logging.getLogger("torch._dynamo.symbolic_convert")


def test_the_overhead_is_measured_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert overhead.main(["--rounds", "1", "--model", "three operations"]) == 0

    table = capsys.readouterr().out
    pattern = r"^three operations +(\w+) +([\d.]+) +([\d.]+) +(-?[\d.]+) +(-?[\d.]+)$"
    rows = re.findall(pattern, table, re.MULTILINE)
    assert [backend for backend, *_ in rows] == [*overhead.BACKENDS]
    assert all(float(plain) > 0 and float(audited) > 0 for _, plain, audited, *_ in rows)
    assert len(overhead.models()) >= 5


def remove_all_handlers(logger: logging.Logger) -> None:
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)


SWITCHED_OFF: dict[str, Callable[[], None]] = {
    "disable": lambda: logging.disable(logging.CRITICAL),
    "config": lambda: logging.config.dictConfig({"version": 1}),
    "logs": lambda: torch._logging.set_logs(graph_breaks=False),
    "no handlers": lambda: setattr(logging.getLogger("torch.__trace"), "handlers", []),
    "cleared": lambda: logging.getLogger("torch.__trace").handlers.clear(),
    "removed": lambda: remove_all_handlers(logging.getLogger("torch.__trace")),
}


@pytest.mark.parametrize("name", SWITCHED_OFF)
@pytest.mark.parametrize("before", [True, False])
def test_logging_switched_off_hides_no_break(name: str, before: bool) -> None:
    loggers = [one for one in logging.root.manager.loggerDict.values() if hasattr(one, "disabled")]
    disabled = [one.disabled for one in loggers]
    trace = logging.getLogger("torch.__trace")
    handlers, switch_off = [*trace.handlers], SWITCHED_OFF[name]
    try:
        if before:
            switch_off()
        with watch() as watched:
            if not before:
                switch_off()
            torch.compile(breaks.item, backend="eager")(torch.ones(3))
    finally:
        logging.disable(logging.NOTSET)
        trace.handlers[:] = handlers
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was
    assert kinds(watched.report()) == ["graph-break"]


# ------------------------------------------------------------------ watch, cases, reports


def test_watch_sees_only_its_block_and_can_be_asked_midway() -> None:
    compiled = torch.compile(double, backend="eager", dynamic=False)
    compiled(torch.ones(2))

    with watch(max_graphs=1) as watched:
        assert kinds(watched.report()) == ["nothing-compiled"]
        compiled(torch.ones(3))
        assert watched.report().ok
        compiled(torch.ones(4))
    compiled(torch.ones(5))

    assert watched.report().graphs == 2
    assert kinds(watched.report()) == ["graph-budget"]


def test_watches_nest() -> None:
    with watch() as outer, watch() as inner:
        torch.compile(breaks.item, backend="eager")(torch.ones(3))

    assert inner.report() == outer.report()
    assert len(inner.report().graph_breaks) == 1


def test_ids_that_begin_anew_are_kept_apart() -> None:
    with watch() as watched:
        for _ in range(2):
            torch.compile(breaks.item, backend="eager")(torch.ones(3))
            torch.compiler.reset()

    assert watched.report().graphs == 4
    assert len(watched.report().graph_breaks) == 2


def test_a_break_met_again_within_one_compilation_is_one() -> None:
    metadata = {"artifact": {"name": "dynamo_graph_break_reason"}, "frame_id": 0}
    with record() as recorded:
        for _ in range(2):
            logging.getLogger("torch.__trace").debug(
                "", extra={"metadata": metadata, "payload": "Graph Break Reason: again"}
            )

    (compilation,) = recorded.compilations
    assert [graph_break.reason for graph_break in compilation.breaks] == ["again"]


def test_every_kind_and_category_is_described() -> None:
    assert sorted(KINDS) == [*KINDS]
    assert all(KINDS.values())
    assert get_args(findings.Category) == findings.CATEGORIES


def test_reports_are_values() -> None:
    report = audit(breaks.item, (torch.ones(3),))

    assert report == audit(breaks.item, (torch.ones(3),))
    for value in (report, report.findings[0], report.graph_breaks[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.line = 1  # type: ignore[misc,union-attr]


def test_a_report_goes_through_json() -> None:
    report = audit_calls(breaks.branch, on_shapes(3, 4), dynamic=False)

    again = AuditReport.from_dict(json.loads(report.to_json()))

    assert again == report
    assert again.to_json() == report.to_json()
    assert again.captured_graphs == report.captured_graphs
    assert again.mode == Mode(dynamic=False)
    assert json.loads(report.to_json())["ok"] is False


def test_a_report_shows_itself() -> None:
    clean, broken = audit(double, (torch.ones(3),)), audit(breaks.twice, (torch.ones(3),))

    assert repr(clean) == "<AuditReport: 1 graph, 0 graph breaks, 0 recompiles: ok>"
    place = f"tests/compile_checks/samples/breaks.py:{broken.findings[0].line}"
    assert repr(broken) == (
        "<AuditReport: 3 graphs, 3 graph breaks, 0 recompiles:\n"
        f"  {place}: graph-break: Call to `torch._dynamo.graph_break()` (3 times)>"
    )


def test_assert_clean_tells_all_of_every_finding() -> None:
    audit(double, (torch.ones(3),)).assert_clean()
    report = audit(breaks.two_breaks, (torch.ones(3),))

    with pytest.raises(AssertionError) as raised:
        report.assert_clean()

    text = str(raised.value)
    for finding in report.findings:
        assert str(finding) in text
        assert f"source: {finding.source}" in text
        assert finding.hint.splitlines()[0] in " ".join(text.split())


def test_graphs_are_kept_with_the_break_that_ended_them() -> None:
    report = audit(breaks.item, (torch.ones(3),))

    before, after = report.captured_graphs
    (graph_break,) = report.graph_breaks
    assert before.compile_id == graph_break.compile_id
    assert before.ops == (("sum", 1),)
    assert after.ops == (("mul", 1),)
    assert before.canonical == "%0 = input\n%1 = sum(%0)\nreturn (%1,)"
    assert "def forward(self, L_x_" in before.text
    assert (before.frame, before.file) == ("item", breaks.__file__)
    assert "resume" in after.frame


def test_each_capturing_backend_compiles() -> None:
    def triple(x: Tensor) -> Tensor:
        return x * 3

    for _ in range(2):
        backend = CapturingBackend("eager")
        torch.compile(triple, backend=backend)(torch.ones(3))
        assert len(backend.captures) == 1
        backend.captures.clear()  # both backends have equal fields now


def test_code_that_compiles_by_another_backend_too_is_no_disagreement() -> None:
    other = torch.compile(lambda x: x + 1, backend="eager")

    def skipped(x: Tensor) -> Tensor:
        for _ in range(2):
            x = other(x)
            torch._dynamo.graph_break()
        return x

    report = audit(skipped, (torch.ones(3),))

    assert kinds(report) == ["graph-break"]
    assert report.graphs == 1  # the graph of the other


def _with_gradients() -> nn.Linear:
    layer = nn.Linear(2, 2)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    return layer


def steps() -> dict[str, Callable[[], object]]:
    """Returns code of torch that Dynamo compiles although the audited function is skipped."""
    layer = _with_gradients()
    optimizer = torch.optim.AdamW(layer.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    return {
        "SGD": torch.optim.SGD(_with_gradients().parameters(), lr=0.1).step,
        "Adagrad": torch.optim.Adagrad(_with_gradients().parameters()).step,
        "AdamW with a schedule": lambda: (optimizer.step(), schedule.step()),
        "averaged weights": lambda: averaged.update_parameters(layer),
    }


@pytest.mark.parametrize("name", steps())
def test_code_of_torch_that_is_called_from_yours_is_no_disagreement(name: str) -> None:
    step = steps()[name]

    def train() -> None:
        torch._dynamo.graph_break()
        step()

    report = audit(train, compare=False)

    assert "disagreement" not in kinds(report)
    assert report.graph_breaks


def test_code_that_resets_dynamo_itself_is_no_disagreement() -> None:
    def resets(x: Tensor) -> Tensor:
        torch._dynamo.reset()
        return x + 1

    assert set(kinds(audit(resets, (torch.ones(3),)))) == {"graph-break"}


def test_an_async_function_is_refused() -> None:
    async def waits(x: Tensor) -> Tensor:
        return x + 1

    with pytest.raises(TypeError, match=r"^fn: expected .* results, got async function waits$"):
        audit(waits, (torch.ones(3),))


def test_errors_name_the_backend() -> None:
    def broken_backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("this backend takes nothing")

    with pytest.raises(Exception, match="backend='broken_backend' raised"):
        audit(double, (torch.ones(3),), backend=broken_backend)


def test_a_case_that_raises_is_a_finding() -> None:
    def fails(x: Tensor) -> Tensor:
        raise KeyError("here")

    report = Case("fails", fails, on_shapes(3)).run()

    (finding,) = report.findings
    assert (finding.kind, finding.reason) == (
        "error",
        "KeyError: 'here'\n  Eager mode raises it too.",
    )
    assert (finding.file, finding.source) == (__file__, 'raise KeyError("here")')


ENGINE = (
    "costs",
    "findings",
    "results",
    "places",
    "breaks",
    "guards",
    "trace",
    "recording",
    "timing",
    "capture",
    "recorder",
    "scenarios",
    "state",
    "held",
    "compare",
    "counts",
    "gates",
    "judge",
    "ranking",
    "watching",
    "regions",
    "run",
    "audit",
    "case",
)
"""The modules of the engine. Each imports only those before it."""


@pytest.mark.parametrize("number", range(len(ENGINE)))
def test_the_engine_knows_nothing_of_masks_and_imports_run_one_way(number: int) -> None:
    code = (Path(compile_checks.__path__[0]) / "_engine" / f"{ENGINE[number]}.py").read_text()

    assert not re.search("mask|attention", code)
    imported = re.findall(r"from compile_checks\._engine(?: import |\.)(\w+)", code)
    assert set(imported) <= set(ENGINE[:number])


X = torch.ones(3)


@pytest.mark.parametrize("args", [X, (X,), [X], {"input": X}])
def test_a_tensor_or_a_mapping_as_inputs(args: Any) -> None:
    assert audit(torch.sin, args).graphs == 1
    assert audit(torch.add, args, {"other": X}).graphs == 1
