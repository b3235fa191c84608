"""Runs code under `torch.compile` and judges what Dynamo did with it.

A graph break does not fail, it only makes a model slower. Nor does a frame that Dynamo gave up on,
or a function that it never saw. All are findings here, so that a test can assert `report.ok`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch._inductor.config
from torch._dynamo.exc import Unsupported, UserError

from compile_checks._engine import gates as checks
from compile_checks._engine import judge
from compile_checks._engine.breaks import break_of
from compile_checks._engine.capture import Backend, CapturingBackend, name_of
from compile_checks._engine.compare import (
    NotComparableError,
    Reference,
    back_propagate,
    copied,
    own_gradients,
)
from compile_checks._engine.crosscheck import Counts, disagreements
from compile_checks._engine.findings import AuditReport, Finding, GraphBreak, Mode
from compile_checks._engine.gates import DEFAULT_GATES, ExpectedGraph, Gate
from compile_checks._engine.recording import record
from compile_checks._engine.scenarios import Calls, Step, steps_of
from compile_checks._engine.state import clean_compiler, seed
from compile_checks._engine.trace import Trace


def audit(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: bool | None = None,
    backward: bool = False,
    backend: Backend = "aot_eager",
    fullgraph: bool = False,
    compare: bool = True,
    gates: Collection[Gate] = DEFAULT_GATES,
    expected_graph: ExpectedGraph | None = None,
) -> AuditReport:
    """Compiles a function or module, calls it twice with the same inputs and judges what happened.

    Args:
        fn: what to audit.
        args, kwargs: the inputs of both calls.
        dynamic: as in `torch.compile`.
        backward: whether to back-propagate the sum of all floating outputs that require grad. As
            with any backward, gradients are added to `.grad`.
        backend: a backend of `torch.compile`. Graph breaks do not depend on it; `"aot_eager"` adds
            functionalisation and the fake kernels of ops.
        fullgraph: as in `torch.compile`: a break ends the audit there and then, as a finding.
        compare: whether to run the code in eager mode as well, on copies of the inputs and of the
            module, and to compare the results, the gradients and what became of the inputs.
            `compile_checks._engine.compare` states the tolerances.
        gates: what else to check: "cudagraph", "export", "host-sync", "opcheck", "pt2". By default
            only "pt2", that no op lacks the tag `pt2_compliant_tag`: it costs nothing.
        expected_graph: what the graph is to be: its canonical text or its ops and their counts,
            as a report's `captured_graphs` have them.

    Returns:
        A report that is `ok` where all code went into graphs, and the second call ran those of the
        first. Its `notes` say what could not be judged, such as results where eager mode itself
        never gives the same twice.

    Raises:
        TypeError: for an async function, of which a call only makes a coroutine.
        ValueError: for an unknown gate.
        Exception: what `fn` raises. As after any audit, the compiler is reset and all that was set
            for it is as before.

    >>> import torch
    >>> audit(torch.nn.ReLU(), (torch.ones(3),)).ok
    True
    >>> print(audit(torch.nn.Identity(), (torch.ones(3),)))
    nothing-compiled: no graph was compiled
    """
    return audit_calls(
        fn,
        [(args, kwargs or {})],
        dynamic=dynamic,
        backward=backward,
        backend=backend,
        fullgraph=fullgraph,
        compare=compare,
        gates=gates,
        expected_graph=expected_graph,
    )


def audit_calls(
    fn: Callable[..., Any],
    calls: Calls,
    *,
    dynamic: bool | None = None,
    backward: bool = False,
    backend: Backend = "aot_eager",
    max_graphs: int | None = None,
    fullgraph: bool = False,
    compare: bool = True,
    gates: Collection[Gate] = DEFAULT_GATES,
    expected_graph: ExpectedGraph | None = None,
) -> AuditReport:
    """Audits a sequence of calls, made twice over. The arguments are those of `audit`, and:

    Args:
        calls: `Step`s, each with its own budget of recompiles, or pairs `(args, kwargs)`, which may
            cost none; or a function that makes them anew each time.
        max_graphs: how many graphs all calls may cost together, recompiles included; the budgets of
            the steps do not count then. `None`: as many as the code needs.

    >>> import torch
    >>> calls = [Step([torch.ones(3)]), Step([torch.ones(4)], recompiles=1), Step([torch.ones(5)])]
    >>> print(audit_calls(torch.nn.ReLU(), calls))
    ok
    >>> print(audit_calls(torch.nn.ReLU(), calls, max_graphs=1))
    graph-budget: 2 graphs compiled, at most 1 expected
    """
    checks.check_names(gates, backend)
    check_callable(fn)
    mode = Mode(fullgraph, dynamic, backward, name_of(backend))
    with clean_compiler(), record() as trace:
        run = _Run(fn, mode, CapturingBackend(backend), trace, compare, frozenset(gates))
        run.make(calls)
        report = run.report(max_graphs)
        if expected_graph is not None:
            run.findings += checks.unlike_expected(report.captured_graphs, expected_graph)
        run.check_gates(calls)
    findings = (*report.findings, *run.findings)
    return replace(report, findings=findings, mode=mode, notes=tuple(run.notes))


@dataclass
class _Run:
    """The calls of one audit, and what is found beside their compilations."""

    fn: Callable[..., Any]
    mode: Mode
    backend: CapturingBackend
    trace: Trace
    compare: bool
    gates: frozenset[Gate]
    counts: Counts = field(default_factory=Counts)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    allowances: list[judge.Allowance] = field(default_factory=list)
    refused: GraphBreak | None = None
    """Where `fullgraph=True` raised."""

    def make(self, calls: Calls) -> None:
        """Makes all calls, twice over: first to compile, then to see that nothing is recompiled."""
        compiled = torch.compile(
            self.fn,
            fullgraph=self.mode.fullgraph,
            dynamic=self.mode.dynamic,
            backend=self.backend,
        )
        try:
            with self._inductor(), self._cudagraphs():
                gradients = [*self._first_round(compiled, _same_steps(calls))]
                gradients += self._second_round(compiled, _same_steps(calls))
        except (Unsupported, UserError) as error:
            if not self.mode.fullgraph:
                raise
            self.refused = break_of(error, str(error))
            return
        if self.mode.backward and not all(gradients):
            reason = "no output requires grad: no backward was audited"
            self.findings.append(Finding("no-gradient", reason))

    def report(self, max_graphs: int | None) -> AuditReport:
        """What Dynamo did, and what is wrong with that."""
        compilations, captures = self.trace.compilations, self.backend.captures
        names = _parameters(self.fn)
        report = judge.report(compilations, self.allowances, max_graphs, captures, names)
        found = [*report.findings, *disagreements(compilations, self.counts, captures)]
        if self.refused is None:
            return replace(report, findings=tuple(found))
        # Nothing was compiled because of the break, which is what there is to tell.
        found = [f for f in found if f.kind not in ("nothing-compiled", "fallback")]
        breaks = report.graph_breaks or (self.refused,)
        broken = [] if report.graph_breaks else judge.broken(breaks)
        return replace(report, graph_breaks=breaks, findings=(*broken, *found))

    def check_gates(self, calls: Calls) -> None:
        """Checks what else was asked for, with the inputs of the first call."""
        captures = self.backend.captures
        if "pt2" in self.gates:
            self.findings += checks.not_compliant(captures)
        if "opcheck" in self.gates and (copies := self._copies("opcheck", calls)):
            self.findings += checks.opcheck_failures(*copies, captures)
        if "export" in self.gates and (copies := self._copies("export", calls)):
            self.findings += checks.export_failure(*copies)
        if not checks.has_gpu():
            needed = sorted(self.gates.intersection(checks.CUDA_GATES))
            self.notes += [f"{gate}: not checked, for there is no CUDA device" for gate in needed]

    def _copies(self, gate: Gate, calls: Calls) -> tuple[Callable[..., Any], Step] | None:
        """What a gate may run: the code with the inputs of the first call."""
        try:
            fn, (step,) = copied(self.fn, _same_steps(calls)[:1])
            return fn, step
        except NotComparableError as reason:
            self.notes.append(f"{gate}: not checked: {reason}")
            return None

    def _first_round(self, compiled: Callable[..., Any], steps: Sequence[Step]) -> Iterator[bool]:
        reference = self._reference(steps) if self.compare else None
        for index, step in enumerate(steps):
            result, with_gradient = self._call(compiled, step, step.label(index), step.recompiles)
            yield with_gradient
            try:
                if reference is not None:
                    self.findings += reference.differences(index, step, result)
            except NotComparableError as reason:
                self.notes.append(f"{step.label(index)}: not compared with eager mode: {reason}")
                reference = None

    def _second_round(self, compiled: Callable[..., Any], steps: Sequence[Step]) -> Iterator[bool]:
        watched = "host-sync" in self.gates and checks.has_gpu()
        with checks.host_syncs(self.findings) if watched else nullcontext():
            for index, step in enumerate(steps):
                yield self._call(compiled, step, f"{step.label(index)} made again", 0)[1]
        if watched and not any(finding.kind == "host-sync" for finding in self.findings):
            for index, step in enumerate(steps):
                name = f"{step.label(index)} made a third time"
                call = partial(self._call, compiled, step, name, 0)
                self.findings += checks.hidden_host_sync(call)

    def _call(
        self, compiled: Callable[..., Any], step: Step, name: str, recompiles: int
    ) -> tuple[Any, bool]:
        """Makes a call: its result, and whether there was something to back-propagate."""
        before = len(self.trace.compilations)
        seed()
        result = compiled(*step.args, **step.kwargs)
        with_gradient = self.mode.backward and back_propagate(result)
        if with_gradient and "cudagraph" in self.gates:
            own_gradients(self.fn, step)
        compilations = self.trace.compilations[before:]
        self.allowances.append(judge.Allowance(compilations, recompiles, name))
        return result, with_gradient

    def _reference(self, steps: Sequence[Step]) -> Reference | None:
        try:
            return Reference(self.fn, steps, backward=self.mode.backward)
        except NotComparableError as reason:
            self.notes.append(f"not compared with eager mode: {reason}")
            return None

    def _inductor(self) -> AbstractContextManager[Any]:
        if self.mode.backend != "inductor":
            return nullcontext()
        options: dict[str, Any] = {}
        if self.compare:  # else Inductor's random numbers are not those of eager mode
            options["fallback_random"] = True
        if "cudagraph" in self.gates:
            options["triton.cudagraphs"] = True
        patch: AbstractContextManager[Any] = torch._inductor.config.patch(options)
        return patch

    def _cudagraphs(self) -> AbstractContextManager[Any]:
        if "cudagraph" not in self.gates:
            return nullcontext()
        return checks.cudagraph_skips(self.findings, self.trace.compilations)


def check_callable(fn: Callable[..., Any]) -> None:
    """Raises a `TypeError` for an async function: nothing of it would run, and nothing break."""
    if inspect.iscoroutinefunction(fn.forward if isinstance(fn, torch.nn.Module) else fn):
        name = getattr(fn, "__name__", type(fn).__name__)
        raise TypeError(f"fn: expected a callable that returns results, got async function {name}")


def _same_steps(calls: Calls) -> tuple[Step, ...]:
    """The steps, and where a function makes them with random numbers, the same each time."""
    seed()
    return steps_of(calls)


def _parameters(fn: Callable[..., Any]) -> list[str]:
    called = fn.forward if isinstance(fn, torch.nn.Module) else fn
    try:
        return [*inspect.signature(called).parameters]
    except (TypeError, ValueError):  # some builtins tell no signature
        return []
