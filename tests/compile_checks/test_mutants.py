"""Mutation tests: if any detector is turned off, the audit misses something that it must find."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import Tensor

from compile_checks import AuditReport, Case, Limits, Mode, Step, audit, audit_calls, audit_modes
from compile_checks._engine.counts import Counts
from compile_checks._engine.findings import Finding
from compile_checks._engine.results import CaseResult, Results
from compile_checks._engine.state import seed
from compile_checks.command import owners, suppressions
from tests.compile_checks.samples import breaks
from tests.compile_checks.test_compare import filled_once
from tests.compile_checks.test_gates import skipped_at_run_time
from tests.compile_checks.test_libraries import in_package
from tests.compile_checks.test_ranking import small_then_large
from tests.compile_checks.test_regions import Calls, Disabled, Regional, with_idle_part
from tests.compile_checks.test_time import PAUSE, looping, spent

X = torch.ones(3)


def double(x: Tensor) -> Tensor:
    return x * 2


@torch.compiler.disable
def drawn() -> float:
    """Returns a random number, which torch 2.15 would otherwise put into the graph."""
    return random.random()


def unlike_eager(x: Tensor) -> Tensor:
    return x + (2 if torch.compiler.is_compiling() else 1)


def untagged(x: Tensor) -> Tensor:
    return torch.ops.audit_mutants.untagged(x) + 1


def counting() -> Callable[[Tensor], Tensor]:
    seen: list[int] = []

    def count(x: Tensor) -> Tensor:
        seen.append(0)
        return x + len(seen)

    return count


BACKWARD = torch.ones(3, requires_grad=True), torch.tensor([True, False, True])


def refused(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("this backend takes nothing")


def with_a_cause(x: Tensor) -> Tensor:
    raise ValueError("no x") from KeyError("x")


def raising(fn: Callable[..., Any]) -> AuditReport:
    return Case("raising", fn, [((X,), {})]).run()


def kinds(report: AuditReport) -> set[str]:
    return {finding.kind for finding in report.findings}


def beyond_the_limit() -> AuditReport:
    with torch._dynamo.config.patch(recompile_limit=1):
        return audit_calls(double, [Step((X,)), Step((torch.ones(4),))], dynamic=False)


def given_up() -> AuditReport:
    with torch._dynamo.config.patch(suppress_errors=True):
        return audit(double, (X,), backend=refused)


def sizes(**options: Any) -> AuditReport:
    return audit_calls(double, [Step((X,)), Step((torch.ones(4),))], **options)


def scaled(x: Tensor, n: float) -> Tensor:
    return x * n


def broken(x: Tensor) -> Tensor:
    torch._dynamo.graph_break()  # compile-checks: ignore[graph-break] to test comments
    return x * 2


def as_results(report: AuditReport) -> Results:
    return Results((CaseResult("case", report),), torch.__version__)


def commented(kind: str = "graph-break") -> AuditReport:
    """The report of `broken` if its comment ignores a kind."""
    report = audit(broken, (X,))
    findings = tuple(replace(finding, kind="recompile") for finding in report.findings)
    shown = report if kind == "graph-break" else replace(report, findings=findings)
    return suppressions.judge(as_results(shown)).cases[0].report  # its line has a finding


SCALES: Any = [((X, n), {}) for n in (2.5, 3.5, 4.5)]


def in_both_modes() -> AuditReport:
    """Audits code in which only the fullgraph mode has a break."""
    case = Case("one-sided", breaks.branch, [((X,), {})])
    with pytest.MonkeyPatch.context() as patch:
        in_mode = Case.in_mode

        def clean_by_default(self: Case, mode: Mode) -> Case:
            return in_mode(self if mode.fullgraph else replace(self, fn=double), mode)

        patch.setattr(Case, "in_mode", clean_by_default)
        return audit_modes(case, [Mode(), Mode(fullgraph=True)])[Mode(fullgraph=True)]


def unbalanced() -> AuditReport:
    """Audits with a counter that counts more graphs than the trace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counts, "graphs", property(lambda self: 9))
        return audit(double, (X,))


def config_kept() -> AuditReport:
    @torch.compiler.disable
    def change() -> None:
        torch._dynamo.config.recompile_limit += 1

    def changing(x: Tensor) -> Tensor:
        change()
        return x + 1

    before = torch._dynamo.config.recompile_limit
    try:
        audit(changing, (X,), compare=False)
        kept = torch._dynamo.config.recompile_limit == before
    finally:
        torch._dynamo.config.recompile_limit = before
    return AuditReport(findings=(Finding("error", "kept"),) if kept else ())


def first(report: AuditReport) -> Finding:
    return report.findings[0]


@dataclass(frozen=True)
class Mutant:
    """A detector, its replacement, and a check that fails with the replacement."""

    target: str
    """A module of `compile_checks` and a name in it, separated by a colon."""
    replacement: Any
    holds: Callable[[], bool]

    def switch(self, patch: pytest.MonkeyPatch) -> None:
        module, _, path = self.target.partition(":")
        *owners, name = path.split(".")
        owner: Any = import_module(f"compile_checks.{module}")
        for part in owners:
            owner = getattr(owner, part)
        patch.setattr(owner, name, self.replacement)


def nothing(*args: Any, **kwargs: Any) -> tuple[()]:
    return ()


MUTANTS = {
    "breaks": Mutant(
        "rules.graph_break:check", nothing, lambda: "graph-break" in kinds(audit(breaks.item, (X,)))
    ),
    "breaks in the trace": Mutant(
        "_engine.trace:Trace._add_break",
        nothing,
        lambda: "disagreement" not in kinds(audit(breaks.item, (X,))),
    ),
    "breaks without an exception": Mutant(
        "_engine.trace:Trace._add_break",
        nothing,
        lambda: "graph-break" in kinds(audit(breaks.branch, (X,))),
    ),
    "merging": Mutant(
        "rules.graph_break:headline", lambda reason: object(), lambda: first(audit(breaks.twice, (X,))).count == 3
    ),
    "refusal of fullgraph": Mutant(
        "rules.graph_break:check",
        nothing,
        lambda: kinds(audit(breaks.in_loop, (X,), fullgraph=True)) == {"graph-break"},
    ),
    "refusal of a backend": Mutant(
        "_compat:backend_error",
        lambda error: None,
        lambda: first(audit(breaks.rejected, (X, torch.tensor(3)))).file == breaks.__file__,
    ),
    "two records of a rejection": Mutant(
        "_engine.trace:REJECTED",
        "no reason begins so",
        lambda: len(audit(breaks.rejected_backward, BACKWARD, backward=True).graph_breaks) == 1,
    ),
    "regions": Mutant(
        "_engine.run:compiled_regions",
        lambda fn: [],
        lambda: audit(Regional(), (torch.ones(2, 4),)).graphs == 4,
    ),
    "held state": Mutant(
        "_engine.compare:held_by", lambda fn: [], lambda: audit(filled_once(), (X[:2],)).ok
    ),
    "restored state": Mutant(
        "_engine.held:Snapshot.restore",
        nothing,
        lambda: audit(filled_once(), (X[:2],)).ok,
    ),
    "NumPy's random numbers": Mutant(
        "_engine.compare:numpy_random_state",
        lambda: (b"", 0),
        lambda: audit(lambda x: x * torch.from_numpy(np.random.rand(3)), (X,)).ok,
    ),
    "what eager raises": Mutant(
        "_engine.case:Case._error_in_eager",
        lambda *args: None,
        lambda: "Eager mode" in first(raising(torch.nn.Linear(4, 4))).reason,
    ),
    "causes of errors": Mutant(
        "rules.error:_chain",
        lambda error: iter([error]),
        lambda: "caused by KeyError: 'x'" in first(raising(with_a_cause)).reason,
    ),
    "ids": Mutant(
        "_compat:graph_break_ids", dict, lambda: first(audit(breaks.at_end, (X,))).gb_id == "GB0025"
    ),
    "hints": Mutant(
        "_engine.breaks:hint_in", lambda reason: "", lambda: first(audit(breaks.item, (X,))).hint != ""
    ),
    "owners": Mutant(
        "_engine.places:owner_of", lambda file: "yours", lambda: first(in_torch()).owner == "torch"
    ),
    "places": Mutant(
        "_engine.places:is_library", lambda file: False, lambda: first(in_torch()).file == breaks.__file__
    ),
    "recompile limit": Mutant(
        "rules.recompile_limit:check", lambda *_: {}, lambda: "recompile-limit" in kinds(beyond_the_limit())
    ),
    "fallback": Mutant(
        "rules.fallback:check", nothing, lambda: "fallback" in kinds(given_up())
    ),
    "nothing compiled": Mutant(
        "_engine.judge:graphs_in",
        lambda compilations: 1,
        lambda: "nothing-compiled" in kinds(audit(lambda x: x, (X,))),
    ),
    "recompiles": Mutant(
        "rules.recompile:check", lambda calls: {}, lambda: "recompile" in kinds(sizes())
    ),
    "one finding for each cause": Mutant(
        "rules.recompile:by_cause",
        lambda recompiles: {id(r): [r] for r in recompiles},
        lambda: len(audit_calls(scaled, SCALES, dynamic=False).findings) == 1,
    ),
    "the line that reads what changed": Mutant(
        "_engine.trace:guarded_line",
        lambda places, frame: ("", 0),
        lambda: first(audit_calls(scaled, SCALES, dynamic=False)).source == "return x * n",
    ),
    "advice": Mutant(
        "rules._causes:advice", lambda *_: "", lambda: "mark_dynamic(x, 0)" in first(sizes()).hint
    ),
    "the caller of a library": Mutant(
        "_engine.breaks:called_from",
        lambda *_: "",
        lambda: "test_libraries.py" in first(in_package()).called_from,
    ),
    "packages outside of site-packages": Mutant(
        "_engine.places:_installed_in",
        lambda folder: frozenset(),
        lambda: first(in_package()).owner == "vendored",
    ),
    "comments": Mutant(
        "command.suppressions:Suppression.ignores",
        lambda *_: False,
        lambda: not [*commented().findings],
    ),
    "unused comments": Mutant(
        "command.suppressions:Suppression.faults",
        nothing,
        lambda: "suppression" in kinds(commented("recompile")),
    ),
    "owners of findings": Mutant(
        "command.owners:_only",
        lambda case, owners: case,
        lambda: not owners.only(as_results(in_package()), ["yours"]).cases[0].report.findings,
    ),
    "disabled parts": Mutant(
        "_engine.regions:_is_compiled",
        lambda function: hasattr(function, "_torchdynamo_orig_callable"),
        lambda: "nothing-compiled" not in kinds(audit(Calls(Disabled()), (X,))),
    ),
    "recompiles in the trace": Mutant(
        "_engine.trace:_reasons", nothing, lambda: first(sizes()).category == "size"
    ),
    "what changed": Mutant(
        "_engine.guards:_TENSOR_CATEGORIES", {}, lambda: first(sizes()).category == "size"
    ),
    "graph budget": Mutant(
        "rules.graph_budget:check", nothing, lambda: "graph-budget" in kinds(sizes(max_graphs=1))
    ),
    "limits on costs": Mutant(
        "rules.cost_budget:check",
        nothing,
        lambda: "cost-budget" in kinds(sizes(limits=Limits(guards=1))),
    ),
    "costs of functions": Mutant(
        "_engine.judge:frames_in", nothing, lambda: any(frame.guards > 1 for frame in sizes().frames)
    ),
    "costs of breaks": Mutant(
        "rules.graph_break:_ops",
        nothing,
        lambda: "1 in the next" in first(audit(broken, (X,))).cost,
    ),
    "time at breaks": Mutant(
        "_engine.timing:_owners",
        lambda runs, compilations: [""] * (len(runs) + 1),
        lambda: first(audit(broken, (X,), time=True)).seconds is not None,
    ),
    "time in a frame that Dynamo skipped": Mutant(
        "_engine.timing:_shared",
        nothing,
        lambda: spent(audit(looping, (X,), time=True), "pause()") > 3 * PAUSE,
    ),
    "causes": Mutant(
        "_engine.ranking:_first_cause",
        lambda finding, *_: finding,
        lambda: audit(breaks.in_loop, (X,)).findings[1].caused_by == 1,
    ),
    "skipped functions": Mutant(
        "_engine.trace:Compilation.resumed",
        True,
        lambda: audit(breaks.in_loop, (X,)).graph_breaks[0].skipped,
    ),
    "ranking": Mutant(
        "_engine.ranking:_rank",
        lambda finding, ops: 0,
        lambda: first(audit(small_then_large, (X,))).source.endswith("# large"),
    ),
    "parts that are never compiled": Mutant(
        "_engine.run:without_effect",
        lambda fn, compiled: [],
        lambda: "no effect on idle:" in str(audit(with_idle_part(), (torch.ones(2, 4),)).notes),
    ),
    "ignored kinds": Mutant(
        "_engine.results:CaseResult.ignoring",
        lambda case, kinds: case,
        lambda: not CaseResult("case", audit(broken, (X,))).ignoring(["graph-break"]).report.findings,
    ),
    "second round": Mutant(
        "_engine.run:Run._second_round",
        nothing,
        lambda: "recompile" in kinds(audit(counting(), (X,))),
    ),
    "gradient": Mutant(
        "_engine.run:back_propagate",
        lambda result: True,
        lambda: "no-gradient" in kinds(audit(double, (X,), backward=True)),
    ),
    "comparison": Mutant(
        "_engine.compare:Reference.differences",
        nothing,
        lambda: "mismatch" in kinds(audit(unlike_eager, (X,))),
    ),
    "comparison of tensors": Mutant(
        "_engine.compare:_float_difference",
        lambda compiled, eager: "",
        lambda: "mismatch" in kinds(audit(unlike_eager, (X,))),
    ),
    "seeds": Mutant(
        "_engine.run:seed",
        lambda number=0: None,
        lambda: audit(torch.nn.Dropout(0.5), (torch.ones(64),)).notes == ()
        and audit(torch.nn.Dropout(0.5), (torch.ones(64),)).ok,
    ),
    "other random numbers": Mutant(
        "_engine.run:seed",
        lambda number=0: seed(),
        lambda: "recompile" in kinds(audit(lambda x: x * drawn(), (X,))),
    ),
    "counters": Mutant(
        "rules.disagreement:check", nothing, lambda: "disagreement" in kinds(unbalanced())
    ),
    "both modes": Mutant(
        "rules.disagreement:check_modes", nothing, lambda: "disagreement" in kinds(in_both_modes())
    ),
    "tags": Mutant(
        "rules.not_pt2_compliant:check",
        nothing,
        lambda: "not-pt2-compliant" in kinds(audit(untagged, (X,))),
    ),
    "opcheck": Mutant(
        "rules.opcheck:check",
        nothing,
        lambda: "opcheck" in kinds(audit(untagged, (X,), gates=["opcheck"], backend="eager")),
    ),
    "export": Mutant(
        "rules.export:check",
        nothing,
        lambda: "export" in kinds(audit(breaks.branch, (X,), gates=["export"])),
    ),
    "cudagraphs": Mutant(
        "rules.cudagraph_skip:check",
        lambda *args: nullcontext(),
        lambda: "cudagraph-skip" in kinds(skipped_at_run_time()),
    ),
    "host syncs": Mutant(
        "rules.host_sync:check",
        lambda found: nullcontext(),
        lambda: "host-sync" in kinds(synchronizing()),
    ),
    "expected graph": Mutant(
        "rules.graph_snapshot:check",
        nothing,
        lambda: "graph-snapshot" in kinds(audit(double, (X,), expected_graph={"sin": 1})),
    ),
    "errors": Mutant(
        "rules.error:finding",
        lambda *errors: Finding("missing-case", "not said"),
        lambda: "error" in kinds(Case("raises", lambda x: [][len(x)], [((X,), {})]).run()),
    ),
    "configuration": Mutant(
        "_compat:restored_dynamo", nullcontext, lambda: not config_kept().ok
    ),
}  # fmt: skip


def in_torch() -> AuditReport:
    return audit(breaks.in_torch, (X,), compare=False)


def synchronizing() -> AuditReport:
    """Mocks a GPU that warns when the host waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compile_checks._engine.gates.has_gpu", lambda: True)
        patch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
        patch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
        return audit(warns, (X,), gates=["host-sync"], compare=False)


@torch.compiler.disable
def _warn() -> None:
    import warnings

    warnings.warn("called a synchronizing CUDA operation", stacklevel=1)


def warns(x: Tensor) -> Tensor:
    _warn()
    return x + 1


@pytest.fixture(autouse=True)
def _library() -> Any:
    with torch.library._scoped_library("audit_mutants", "FRAGMENT") as library:
        library.define("untagged(Tensor x) -> Tensor")
        library.impl("untagged", lambda x: x.clone(), "CompositeExplicitAutograd")
        library._register_fake("untagged", lambda x: x.new_empty(1))
        yield


@pytest.mark.filterwarnings("ignore:called a synchronizing CUDA operation")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_detector_is_missed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    assert mutant.holds()

    mutant.switch(monkeypatch)

    assert not mutant.holds()
