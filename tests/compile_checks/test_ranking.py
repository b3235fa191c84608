"""The order of findings, and which of them only follow from others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compile_checks import AuditReport, Finding, Limits, Step, audit, audit_calls, watch
from compile_checks._engine.findings import GraphBreak, grouped
from compile_checks._engine.ranking import ranked
from compile_checks._engine.results import CaseResult, Results
from compile_checks.outputs import html, markdown, terminal
from compile_checks.outputs import json as as_json
from compile_checks.rules import disagreement
from tests.compile_checks.samples import breaks

X = torch.ones(3)


def consequences(report: AuditReport) -> dict[str, list[str]]:
    """The kinds of the findings, each with those of its consequences."""
    return {cause.kind: [f.kind for f in others] for cause, others in grouped(report.findings)}


def double(x: Tensor) -> Tensor:
    return x * 2


def small_then_large(x: Tensor) -> Tensor:
    torch._dynamo.graph_break()  # small
    x = x + 1
    torch._dynamo.graph_break()  # large
    return x.sin().cos().tan()


def test_breaks_are_ordered_by_the_ops_around_them() -> None:
    report = audit(small_then_large, (X,), backend="eager")

    assert [b.source.split("# ")[1] for b in report.graph_breaks] == ["small", "large"]
    assert [f.source.split("# ")[1] for f in report.findings] == ["large", "small"]


def broken_at(line: int, seconds: float | None, ops: int) -> tuple[GraphBreak, Finding]:
    found = GraphBreak("a break", "f.py", line, "", ops_before=ops, seconds=seconds)
    return found, Finding("graph-break", "a break", file="f.py", line=line, seconds=seconds)


def test_a_measured_time_comes_before_ops_and_errors_before_both() -> None:
    pairs = [
        broken_at(1, None, 9),
        broken_at(2, 0.1, 1),
        broken_at(3, 0.2, 0),
        broken_at(4, None, 3),
    ]
    others = (Finding("recompile", "x"), Finding("mismatch", "y"), Finding("export", "z"))
    report = ranked(
        AuditReport(1, tuple(b for b, _ in pairs), findings=(*(f for _, f in pairs), *others))
    )

    shown = [f.line or f.kind for f in report.findings]
    assert shown == ["mismatch", 3, 2, 1, 4, "recompile", "export"]
    assert [f.number for f in report.findings] == [1, 2, 3, 4, 5, 6, 7]


def test_nothing_compiled_follows_from_a_break_that_skips_the_function() -> None:
    report = audit(breaks.in_loop, (X,), backend="eager")

    assert report.graph_breaks[0].skipped
    assert consequences(report) == {"graph-break": ["nothing-compiled"]}
    assert str(report).endswith("\n  nothing-compiled: no graph was compiled")
    assert [(f.number, f.caused_by) for f in report.findings] == [(1, 0), (2, 1)]


def test_nothing_compiled_does_not_follow_from_a_break_without_ops() -> None:
    def nothing_to_compile(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x

    report = audit(nothing_to_compile, (X,), backend="eager")

    assert not report.graph_breaks[0].skipped
    assert consequences(report) == {"graph-break": [], "nothing-compiled": []}


def test_nothing_compiled_follows_from_a_fallback() -> None:
    def refused(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("this backend takes nothing")

    with torch._dynamo.config.patch(suppress_errors=True):
        report = audit(double, (X,), backend=refused)

    assert consequences(report) == {"fallback": ["nothing-compiled"]}


def halves(x: Tensor) -> Tensor:
    x = x + 1
    torch._dynamo.graph_break()
    return x * 2


def broken_first(x: Tensor) -> Tensor:
    torch._dynamo.graph_break()
    x = x + 1
    torch._dynamo.graph_break()
    return x * 2


@pytest.mark.parametrize(
    ("fn", "sizes", "budget", "follows"),
    [
        (halves, (3,), 1, True),
        (halves, (3, 4), 2, False),  # whole, it would be compiled for each size
        (breaks.at_start, (3, 4), 1, False),
        (breaks.twice, (3,), 2, True),
        (breaks.twice, (3,), 1, False),  # its helper is compiled separately
        (broken_first, (3,), 1, True),  # whole, it would be one graph
    ],
)
def test_too_many_graphs_follow_from_breaks(
    fn: Callable[[Tensor], Tensor], sizes: tuple[int, ...], budget: int, follows: bool
) -> None:
    calls = [Step((torch.ones(size),)) for size in sizes]
    report = audit_calls(fn, calls, backend="eager", max_graphs=budget, dynamic=False)

    found = consequences(report)
    assert found == (
        {"graph-break": ["graph-budget"]} if follows else {"graph-break": [], "graph-budget": []}
    )


def test_a_watch_knows_its_budget() -> None:
    torch.compiler.reset()
    with watch(max_graphs=1) as watched:
        torch.compile(halves, backend="eager")(X)

    assert consequences(watched.report()) == {"graph-break": ["graph-budget"]}


def drawn(x: Tensor) -> Tensor:
    return x * np.random.rand()


def by_item(x: Tensor) -> Tensor:
    return x * x.sum().item()


def test_a_recompile_follows_from_the_break_whose_result_changed() -> None:
    report = audit_calls(by_item, [((X,), {}), ((X * 2,), {})], backend="eager", dynamic=False)

    assert report.recompiles[0].argument.startswith("___stack")
    assert consequences(report) == {"graph-break": ["recompile"]}


def two_results(x: Tensor) -> Tensor:
    x = x + x.max().item()
    torch._dynamo.graph_break()
    return x + 1


def test_of_several_breaks_it_is_the_one_at_the_line_that_resumes() -> None:
    report = audit_calls(two_results, [((X,), {}), ((X * 2,), {})], backend="eager", dynamic=False)

    groups = {cause.source: [f.kind for f in others] for cause, others in grouped(report.findings)}
    assert groups == {
        "x = x + x.max().item()": ["recompile"],
        "torch._dynamo.graph_break()": [],
    }


def test_a_recompile_for_a_size_does_not_follow_from_a_break() -> None:
    report = audit_calls(halves, [((X,), {}), ((torch.ones(4),), {})], backend="eager")

    assert consequences(report) == {"graph-break": [], "recompile": []}


@torch.compiler.disable
def doubled(x: Tensor) -> Tensor:
    return x * 2


def test_a_function_on_one_line_and_what_resumes_it_have_one_recompile() -> None:
    calls = [((X,), {}), ((torch.ones(4),), {})]
    report = audit_calls(lambda x: doubled(x) + 1, calls, backend="eager", dynamic=False)

    # The size would also change without the break.
    assert consequences(report) == {"graph-break": [], "recompile": []}


def test_too_many_compilations_follow_from_recompiles() -> None:
    calls = [((X,), {}), ((torch.ones(4),), {})]
    limits = Limits(entries=1, guards=1)
    report = audit_calls(double, calls, backend="eager", limits=limits)

    groups = [
        (cause.kind, [f.reason for f in others]) for cause, others in grouped(report.findings)
    ]
    assert groups[0] == ("recompile", ["double: compiled 2 times, at most 1 allowed"])
    assert [kind for kind, _ in groups] == ["recompile", "cost-budget"]  # of guards


def test_a_chain_is_folded_under_its_first_cause() -> None:
    calls = [((X,), {}), ((X * 2,), {})]
    limits = Limits(entries=1)
    report = audit_calls(by_item, calls, backend="eager", dynamic=False, limits=limits)

    assert consequences(report) == {"graph-break": ["recompile", "cost-budget"]}
    assert [f.caused_by for f in report.findings] == [0, 1, 1]


@pytest.mark.parametrize(
    ("reason", "line", "follows"),
    [
        (disagreement.UNLISTED, 1, True),
        (disagreement.UNLISTED, 2, False),
        ("only graph_break_reasons has a break here, not the structured trace", 1, False),
    ],
)
def test_a_counter_that_lacks_a_break(reason: str, line: int, follows: bool) -> None:
    found, finding = broken_at(1, None, 1)
    lacks = Finding("disagreement", reason, file="f.py", line=line)

    report = ranked(AuditReport(1, (found,), findings=(lacks, finding)))

    assert (consequences(report) == {"graph-break": ["disagreement"]}) is follows


def test_findings_are_neither_lost_nor_changed() -> None:
    report = audit(breaks.in_loop, (X,), backend="eager")
    shuffled = replace(report, findings=report.findings[::-1])

    assert ranked(shuffled).findings == report.findings
    assert AuditReport.from_dict(report.as_dict()).findings[1].caused_by == 1


def test_a_consequence_of_an_accepted_finding_is_on_its_own() -> None:
    case = CaseResult("case", audit(breaks.in_loop, (X,), backend="eager"))

    left = case.ignoring(["graph-break"]).report

    assert consequences(left) == {"nothing-compiled": []}


def results() -> Results:
    report = audit(breaks.in_loop, (X,), backend="eager")
    return Results((CaseResult("looping", report),), torch.__version__)


def test_the_table_folds_consequences() -> None:
    lines = terminal.render(results()).splitlines()

    at = lines.index("    and 1 consequence:")
    assert lines[at + 1] == "      nothing-compiled: no graph was compiled"


def test_markdown_folds_consequences() -> None:
    text = markdown.render(results())

    assert text.endswith("\nand 1 consequence:\n\n- nothing-compiled: no graph was compiled\n")
    assert text.count("### ") == 1


def test_html_folds_consequences() -> None:
    text = html.render(results())

    _, _, folded = text.partition("<summary>and 1 consequence</summary>")
    assert '<span class="kind">nothing-compiled</span>' in folded
    assert text.count("nothing-compiled</span>") == 1


def test_json_links_consequences_to_their_cause() -> None:
    (case,) = json.loads(as_json.render(results()))["cases"]

    assert [(f["kind"], f["number"], f["caused_by"]) for f in case["findings"]] == [
        ("graph-break", 1, 0),
        ("nothing-compiled", 2, 1),
    ]
    assert case["graph_breaks"][0]["skipped"]
