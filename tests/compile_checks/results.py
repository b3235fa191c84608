"""Results for the report formats, with characters that each format must escape."""

from __future__ import annotations

from pathlib import Path

from compile_checks._engine.findings import (
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Recompile,
)
from compile_checks._engine.results import CaseResult, Known, Results

SOURCE = """\
import torch


def step(x):
    if x.sum() > 0:  # `<b>` & "co": 100%
        x = x * 2
    return x
"""


def results(folder: Path) -> Results:
    """Returns four cases: a graph break between two graphs, a recompile, a known one, a clean one."""
    file = folder / "model & co.py"
    file.write_text(SOURCE)
    return Results(
        torch="2.13.0",
        cases=(
            CaseResult("model.py::step", _broken(str(file)), seconds=1.25),
            CaseResult("grow|s, <fast>", _growing(), seconds=0.5, file="/src/m:1,2.py", line=3),
            CaseResult("old", AuditReport(graphs=1), known=(_known(),)),
            CaseResult("clean", AuditReport(graphs=1, notes=("no <GPU>",)), seconds=0.125),
        ),
    )


def _broken(file: str) -> AuditReport:
    reason = "Data-dependent branching\n  Explanation: `if` on a <Tensor>\x1b[31m.\n"
    hint = "Use `torch.cond` to express dynamic control flow.\nOr torch.where <b>."
    place = {"file": file, "line": 5, "source": SOURCE.splitlines()[4].strip()}
    broken = GraphBreak(reason, **place, gb_id="GB0170", hint=hint, compile_id="0/0")  # type: ignore[arg-type]
    found = Finding(
        "graph-break",
        reason,
        hint=hint,
        gb_id="GB0170",
        **place,  # type: ignore[arg-type]
        owner="yours",
        count=2,
    )
    graphs = (
        CapturedGraph(
            "0/0", "step", file, 4, "gt = x.sum() > 0  # <before>", ops=(("sum", 1), ("gt", 2))
        ),
        CapturedGraph("1/0", "resume_in_step", file, 5, "return x * 2", ops=(("mul", 1),)),
    )
    return AuditReport(2, (broken, broken), (), (found,), captured_graphs=graphs)


def _growing() -> AuditReport:
    guard = "tensor 'x' size mismatch at index 0. expected 3, actual 4"
    recompile = Recompile((guard,), "", 0, category="size", guard=guard, argument="x")
    found = Finding("recompile", guard, guard=guard, argument="x", category="size", owner="einops")
    budget = Finding("graph-budget", "3 graphs compiled, at most 1 expected\nsee [x](y) and a_b_c")
    return AuditReport(3, (), (recompile, recompile), (found, budget))


def _known() -> Known:
    finding = Finding("fallback", "a frame was left", file="lib.py", line=9, source="return `a`")
    return Known(finding, reason="waits for torch 2.16 ]]>", expires="2027-01-31")
