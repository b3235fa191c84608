"""Runs the calls of one audit and collects its findings and notes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from compile_checks import _compat
from compile_checks._engine import gates, judge, timing
from compile_checks._engine.breaks import break_of
from compile_checks._engine.capture import CapturingBackend
from compile_checks._engine.compare import (
    NotComparableError,
    Reference,
    back_propagate,
    copied,
    own_gradients,
)
from compile_checks._engine.costs import UNLIMITED, Limits
from compile_checks._engine.counts import Counts
from compile_checks._engine.findings import (
    AuditReport,
    CapturedGraph,
    Finding,
    GraphBreak,
    Mode,
)
from compile_checks._engine.gates import ExpectedGraph, Gate
from compile_checks._engine.regions import (
    compiled_regions,
    described,
    said_without_effect,
    without_effect,
)
from compile_checks._engine.scenarios import Calls, Step, steps_of
from compile_checks._engine.state import seed
from compile_checks._engine.trace import Trace
from compile_checks.rules import (
    cudagraph_skip,
    disagreement,
    export,
    fallback,
    graph_break,
    graph_snapshot,
    host_sync,
    mismatch,
    no_gradient,
    not_pt2_compliant,
    nothing_compiled,
    opcheck,
)


@dataclass
class Run:
    """The calls of one audit, and the findings that do not follow from their compilations."""

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
    compiled: Callable[..., Any] | None = None
    """The compiled code, unless the code compiles parts of itself."""
    refused: GraphBreak | None = None
    """The break at which `fullgraph=True` raised."""

    def make(self, calls: Calls) -> None:
        """Runs all calls twice: first to compile, then to verify that nothing is recompiled.

        The second time, random numbers are different: a graph must not depend on them.
        """
        compiled = self._compiled()
        try:
            with self._inductor(), self._cudagraphs():
                gradients = [*self._first_round(compiled, same_steps(calls))]
                gradients += self._second_round(compiled, same_steps(calls))
        except Exception as error:
            if not (self.mode.fullgraph and _compat.is_refusal(error)):
                raise
            self.refused = break_of(error, str(error))
            return
        if self.mode.backward:
            self.findings += no_gradient.check(gradients)

    def _compiled(self) -> Callable[..., Any]:
        """Returns the compiled code, or the code itself if it compiles parts of itself."""
        if regions := compiled_regions(self.fn):
            self.notes.append(described(regions))
            return self.fn
        self.compiled = torch.compile(
            self.fn,
            fullgraph=self.mode.fullgraph,
            dynamic=self.mode.dynamic,
            backend=self.backend.compiler,
        )
        return self.compiled

    def report(self, max_graphs: int | None, limits: Limits = UNLIMITED) -> AuditReport:
        """Returns a report on what Dynamo did."""
        compilations, captures = self.trace.compilations, self.backend.captures
        names = _parameters(self.fn)
        report = judge.report(compilations, self.allowances, max_graphs, captures, names, limits)
        if self.compiled is None and compilations:
            places = {(c.file, c.line) for c in compilations if c.started}
            idle = without_effect(self.fn, places)
            self.notes += [said_without_effect(idle)] if idle else []
        found = [*report.findings, *disagreement.check(compilations, self.counts, captures)]
        if captures and not compilations:  # graphs were compiled, and nothing was recorded
            self.notes.append(_compat.silent_trace())
            found = [f for f in found if f.kind != nothing_compiled.RULE.id]
        if self.refused is None:
            return replace(report, findings=tuple(found))
        # Nothing was compiled because of the break, so report only the break.
        consequences = (nothing_compiled.RULE.id, fallback.RULE.id)
        found = [f for f in found if f.kind not in consequences]
        breaks = report.graph_breaks or (self.refused,)
        broken = [] if report.graph_breaks else graph_break.check(breaks)
        return replace(report, graph_breaks=breaks, findings=(*broken, *found))

    def measured(self, report: AuditReport, calls: Calls) -> AuditReport:
        """Returns the report with how long a call takes, if it was requested and is possible."""
        if self.backend.stopwatch is None or self.refused is not None:
            return report
        found = self._measure(self.backend.stopwatch, calls)
        if isinstance(found, str):
            self.notes.append(f"time: not measured: {found}")
            return report
        times, left = found.times, dict(found.at_breaks)
        # The first break of a compilation is the cause of its others.
        breaks = tuple(
            replace(b, seconds=left.pop(b.compile_id, None)) for b in report.graph_breaks
        )
        others = (f for f in report.findings if f.kind != graph_break.RULE.id)
        findings = (*graph_break.check(breaks, times), *others)
        return replace(report, graph_breaks=breaks, findings=findings, times=times)

    def _measure(self, stopwatch: timing.Stopwatch, calls: Calls) -> timing.Measurement | str:
        """Makes the calls again, several times. Returns why not if that says nothing."""
        if self.compiled is None:
            return "the code compiles parts of itself"
        if not self.backend.captures:
            return "no graph was captured"
        before = [*self.trace.compilations]
        try:
            with self._inductor():
                rounds = [*timing.rounds(stopwatch, lambda: self._timed_calls(stopwatch, calls))]
        except (Exception, SystemExit) as error:  # the audit has checked two calls; these are more
            return f"a repeated call raised {type(error).__name__}: {error}"
        if len(self.trace.compilations) > len(before):
            return "repeated calls compile something new"
        return timing.measurement(rounds, before) or "the calls do not run the same graphs"

    def _timed_calls(self, stopwatch: timing.Stopwatch, calls: Calls) -> Iterator[timing.TimedCall]:
        assert self.compiled is not None
        for step in same_steps(calls):
            seed()
            yield timing.timed(stopwatch, partial(self.compiled, *step.args, **step.kwargs))

    def all_notes(self) -> tuple[str, ...]:
        """Returns what could not be checked, and why."""
        return (*self.notes, *_compat.notes({*self.gates, self.mode.backend}))

    def check_graph(self, graphs: Iterable[CapturedGraph], expected: ExpectedGraph | None) -> None:
        """Compares the captured graphs with the expected ones, if there are any."""
        needed = (_compat.CURRENT_COMPILE_ID, _compat.LOOKUP_BACKEND)
        if expected is not None and all(api.get() is not None for api in needed):
            self.findings += graph_snapshot.check(graphs, expected)

    def check_gates(self, calls: Calls) -> None:
        """Runs the optional checks with the inputs of the first call."""
        captures = self.backend.captures
        if "pt2" in self.gates:
            self.findings += not_pt2_compliant.check(captures)
        if "opcheck" in self.gates and (copies := self._copies("opcheck", calls)):
            self.findings += opcheck.check(*copies, captures)
        if "export" in self.gates and (copies := self._copies("export", calls)):
            self.findings += export.check(*copies)
        if not gates.has_gpu():
            needed = sorted(self.gates.intersection(gates.CUDA_GATES))
            self.notes += [f"{gate}: not checked: there is no CUDA device" for gate in needed]

    def _copies(self, gate: Gate, calls: Calls) -> tuple[Callable[..., Any], Step] | None:
        """Returns the code and the inputs of the first call, for a gate to run."""
        try:
            fn, (step,) = copied(self.fn, same_steps(calls)[:1])
            return fn, step
        except NotComparableError as reason:
            self.notes.append(f"{gate}: not checked: {reason}")
            return None

    def _first_round(self, compiled: Callable[..., Any], steps: Sequence[Step]) -> Iterator[bool]:
        reference = self._reference(steps) if self.compare else None
        for index, step in enumerate(steps):
            label = step.label(index)
            if reference is not None:
                reference.before(step)
            result, with_gradient = self._call(compiled, step, label, step.recompiles)
            yield with_gradient
            try:
                if reference is not None:
                    differences = reference.differences(index, step, result)
                    self.findings += mismatch.check(self.fn, label, differences)
            except NotComparableError as reason:
                self.notes.append(f"{label}: not compared with eager mode: {reason}")
                reference = None

    def _second_round(self, compiled: Callable[..., Any], steps: Sequence[Step]) -> Iterator[bool]:
        watched = "host-sync" in self.gates and gates.has_gpu()
        with host_sync.check(self.findings) if watched else nullcontext():
            for index, step in enumerate(steps):
                yield self._call(compiled, step, f"{step.label(index)}, repeated,", 0, 1)[1]
        if watched and not any(f.kind == host_sync.RULE.id for f in self.findings):
            for index, step in enumerate(steps):
                name = f"{step.label(index)}, repeated again,"
                call = partial(self._call, compiled, step, name, 0, 1)
                self.findings += host_sync.check_call(call)

    def _call(
        self,
        compiled: Callable[..., Any],
        step: Step,
        name: str,
        recompiles: int,
        random_seed: int = 0,
    ) -> tuple[Any, bool]:
        """Makes a call. Returns its result, and True if it had outputs to back-propagate."""
        before = len(self.trace.compilations)
        seed(random_seed)
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
        return _compat.inductor_options(
            fallback_random=self.compare,  # otherwise its random numbers differ from eager mode
            cudagraphs="cudagraph" in self.gates,
        )

    def _cudagraphs(self) -> AbstractContextManager[Any]:
        if "cudagraph" not in self.gates:
            return nullcontext()
        return cudagraph_skip.check(self.findings, self.trace.compilations)


def same_steps(calls: Calls) -> tuple[Step, ...]:
    """Returns the steps, with the seed reset so that random inputs are always the same."""
    seed()
    return steps_of(calls)


def _parameters(fn: Callable[..., Any]) -> list[str]:
    called = fn.forward if isinstance(fn, torch.nn.Module) else fn
    try:
        return [*inspect.signature(called).parameters]
    except (TypeError, ValueError):  # some builtins have no signature
        return []
