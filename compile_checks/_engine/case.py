"""An audit with a name, and one thing audited in several modes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from compile_checks._engine.audit import audit_calls
from compile_checks._engine.crosscheck import unlike_fullgraph
from compile_checks._engine.findings import AuditReport, Finding, Mode
from compile_checks._engine.gates import DEFAULT_GATES, ExpectedGraph, Gate
from compile_checks._engine.places import place_of_error
from compile_checks._engine.scenarios import Calls

ALL_MODES: Final[tuple[Mode, ...]] = tuple(
    Mode(fullgraph, dynamic, backward, backend)
    for backend, backward, dynamic, fullgraph in product(
        ("eager", "aot_eager", "inductor"), (False, True), (None, True, False), (False, True)
    )
)
"""Every combination, each default mode right before its fullgraph mode."""


@dataclass(frozen=True)
class Case:
    """An audit with a name. The other fields are the arguments of `audit_calls`."""

    name: str
    fn: Callable[..., Any]
    calls: Calls
    dynamic: bool | None = None
    backward: bool = False
    max_graphs: int | None = None
    covers: str = ""
    """What this case stands for, where each of a list of things must have one."""
    fullgraph: bool = False
    backend: str = "aot_eager"
    compare: bool = True
    gates: Collection[Gate] = DEFAULT_GATES
    expected_graph: ExpectedGraph | None = None

    @property
    def mode(self) -> Mode:
        return Mode(self.fullgraph, self.dynamic, self.backward, self.backend)

    def in_mode(self, mode: Mode) -> Case:
        """The same in another mode."""
        return replace(
            self,
            fullgraph=mode.fullgraph,
            dynamic=mode.dynamic,
            backward=mode.backward,
            backend=mode.backend,
        )

    def run(self) -> AuditReport:
        """Audits it. An exception is a finding too, so that the other cases still run."""
        try:
            report = audit_calls(
                self.fn,
                self.calls,
                dynamic=self.dynamic,
                backward=self.backward,
                backend=self.backend,
                max_graphs=self.max_graphs,
                fullgraph=self.fullgraph,
                compare=self.compare,
                gates=self.gates,
                expected_graph=self.expected_graph,
            )
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            finding = place_of_error(error).of(Finding("error", reason))
            report = AuditReport(findings=(finding,), mode=self.mode)
        named = tuple(replace(finding, case=self.name) for finding in report.findings)
        return replace(report, findings=named)


def audit_modes(case: Case, modes: Iterable[Mode] = ALL_MODES) -> dict[Mode, AuditReport]:
    """Audits a case in several modes, and holds those against each other.

    Where the default mode and `fullgraph=True` do not agree on whether there is a break, and it is
    not known why, the report of the latter has a finding for it.

    >>> import torch
    >>> case = Case("relu", torch.nn.ReLU(), [([torch.ones(3)], {})])
    >>> reports = audit_modes(case, [Mode(), Mode(fullgraph=True)])
    >>> [str(report) for report in reports.values()]
    ['ok', 'ok']
    """
    reports: dict[Mode, AuditReport] = {}
    for mode in modes:
        reports[mode] = case.in_mode(mode).run()
        default = reports.get(replace(mode, fullgraph=False))
        if mode.fullgraph and default is not None:
            differing = (
                replace(f, case=case.name) for f in unlike_fullgraph(default, reports[mode])
            )
            findings = (*reports[mode].findings, *differing)
            reports[mode] = replace(reports[mode], findings=findings)
    return reports
