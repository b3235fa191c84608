"""Named audits, in one mode or in several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from compile_checks import _compat
from compile_checks._engine.audit import audit_calls
from compile_checks._engine.capture import backend_name
from compile_checks._engine.compare import back_propagate
from compile_checks._engine.costs import UNLIMITED, Limits
from compile_checks._engine.findings import AuditReport, Mode
from compile_checks._engine.gates import DEFAULT_GATES, ExpectedGraph, Gate
from compile_checks._engine.run import same_steps
from compile_checks._engine.scenarios import Calls
from compile_checks._engine.state import restored_generators, seed
from compile_checks.rules import disagreement
from compile_checks.rules import error as errors

ALL_MODES: Final[tuple[Mode, ...]] = tuple(
    Mode(fullgraph, dynamic, backward, backend)
    for backend, backward, dynamic, fullgraph in product(
        ("eager", "aot_eager", "inductor"), (False, True), (None, True, False), (False, True)
    )
)
"""Every combination. Each default mode immediately precedes its fullgraph mode."""


@dataclass(frozen=True)
class Case:
    """A named audit. The other fields, except `covers`, are the arguments of `audit_calls`."""

    name: str
    fn: Callable[..., Any]
    calls: Calls
    dynamic: bool | None = None
    backward: bool = False
    max_graphs: int | None = None
    limits: Limits = UNLIMITED
    covers: str = ""
    """The required name that this case covers, if any."""
    fullgraph: bool = False
    backend: str = "aot_eager"
    compare: bool = True
    gates: Collection[Gate] = DEFAULT_GATES
    expected_graph: ExpectedGraph | None = None
    time: bool = False

    @property
    def mode(self) -> Mode:
        """The mode of this case."""
        return Mode(self.fullgraph, self.dynamic, self.backward, self.backend)

    def in_mode(self, mode: Mode) -> Case:
        """Returns this case in another mode."""
        return replace(
            self,
            fullgraph=mode.fullgraph,
            dynamic=mode.dynamic,
            backward=mode.backward,
            backend=mode.backend,
        )

    def run(self) -> AuditReport:
        """Audits the case. Turns an exception into a finding, so that other cases still run."""
        try:
            report, raised = self._audited(), None
        except Exception as error:
            mode = replace(self.mode, backend=backend_name(self.backend))
            report, raised = AuditReport(mode=mode), error
        if raised is not None:
            # Not in the `except` block: there, it would become the context of what eager raises.
            finding = errors.finding(raised, self._error_in_eager(raised))
            report = replace(report, findings=(finding,))
        named = tuple(replace(finding, case=self.name) for finding in report.findings)
        return replace(report, findings=named)

    def _audited(self) -> AuditReport:
        return audit_calls(
            self.fn,
            self.calls,
            dynamic=self.dynamic,
            backward=self.backward,
            backend=self.backend,
            max_graphs=self.max_graphs,
            limits=self.limits,
            fullgraph=self.fullgraph,
            compare=self.compare,
            gates=self.gates,
            expected_graph=self.expected_graph,
            time=self.time,
        )

    def _error_in_eager(self, raised: Exception) -> Exception | None:
        """Returns the same exception from the same calls in eager mode, or None if they succeed."""
        if not self.compare:
            return None
        try:
            with restored_generators():
                for step in same_steps(self.calls):
                    seed()
                    result = self.fn(*step.args, **step.kwargs)
                    if self.backward:
                        back_propagate(result)
        except Exception as error:
            # The calls that raised may have changed the inputs, which may lead to another error.
            is_same = type(error) is type(raised) or _compat.is_from_dynamo(raised)
            return error if is_same else None
        return None


def audit_modes(case: Case, modes: Iterable[Mode] = ALL_MODES) -> dict[Mode, AuditReport]:
    """Audits a case in several modes and compares the default mode with `fullgraph=True`.

    If only one of them has a graph break for an unknown reason, the report of the fullgraph mode
    has a finding.

    >>> import torch
    >>> case = Case("relu", torch.nn.ReLU(), [([torch.ones(3)], {})])
    >>> reports = audit_modes(case, [Mode(), Mode(fullgraph=True)])
    >>> [str(report) for report in reports.values()]
    ['ok', 'ok']
    """
    reports: dict[Mode, AuditReport] = {}
    for mode in modes:
        reports[mode] = case.in_mode(mode).run()
    for mode in reports:
        default = reports.get(replace(mode, fullgraph=False))
        if mode.fullgraph and default is not None:
            differing = [
                replace(finding, case=case.name)
                for finding in disagreement.check_modes(default, reports[mode])
            ]
            findings = (*reports[mode].findings, *differing)
            reports[mode] = replace(reports[mode], findings=findings)
    return reports
