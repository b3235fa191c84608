"""What a run of the command is to do: cases, each with the modes to audit it in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from compile_checks._engine.case import Case, audit_modes
from compile_checks._engine.findings import AuditReport, Finding, Mode
from compile_checks._engine.gates import Gate
from compile_checks._engine.results import CaseResult
from compile_checks.command.targets import TargetError, definition, load

_FULLGRAPH: Mapping[str, Sequence[bool]] = {
    "default": (False,),
    "fullgraph": (True,),
    "all": (False, True),
}
_DYNAMIC: Mapping[str, Sequence[bool | None]] = {
    "auto": (None,),
    "true": (True,),
    "false": (False,),
    "all": (None, True, False),
}


@dataclass(frozen=True)
class Options:
    """What is asked for in place of what the cases themselves say; `None` leaves it to them."""

    mode: Literal["default", "fullgraph", "all", None] = None
    dynamic: Literal["auto", "true", "false", "all", None] = None
    backward: bool | None = None
    backend: str | None = None
    budget: int | None = None
    gates: Collection[Gate] = ()
    """In addition to those of the cases."""

    def modes(self, case: Case) -> tuple[Mode, ...]:
        """The modes to audit a case in, default before fullgraph."""
        own = case.mode
        fullgraphs = [own.fullgraph] if self.mode is None else _FULLGRAPH[self.mode]
        dynamics = [own.dynamic] if self.dynamic is None else _DYNAMIC[self.dynamic]
        return tuple(
            Mode(
                fullgraph,
                dynamic,
                own.backward if self.backward is None else self.backward,
                own.backend if self.backend is None else self.backend,
            )
            for dynamic in dynamics
            for fullgraph in fullgraphs
        )

    def applied(self, case: Case) -> Case:
        """A case with the budget and the gates that are asked for. Modes are for `Task`."""
        changes: dict[str, Any] = {}
        if self.budget is not None:
            changes["max_graphs"] = self.budget
        if self.gates:
            changes["gates"] = tuple(dict.fromkeys((*case.gates, *self.gates)))
        return replace(case, **changes)


@dataclass(frozen=True)
class Task:
    """A case and the modes to audit it in."""

    case: Case
    modes: tuple[Mode, ...]

    @property
    def name(self) -> str:
        return self.case.name

    def run(self) -> list[tuple[str, AuditReport]]:
        """A report for each mode, each with a name."""
        reports = audit_modes(self.case, self.modes)
        return [(self._named(mode), report) for mode, report in reports.items()]

    def definition(self) -> tuple[str, int]:
        """File and line of what is audited."""
        return definition(self.case.fn)

    def _named(self, mode: Mode) -> str:
        return self.name if len(self.modes) == 1 else f"{self.name}, {mode}"


@dataclass(frozen=True)
class Plan:
    """Can be pickled, so that another process makes the same tasks of it."""

    targets: tuple[str, ...] = ()
    """What the command line names; empty for this project's own cases."""
    options: Options = Options()

    def tasks(self) -> list[Task]:
        """The tasks, made anew and always in the same order.

        Raises:
            TargetError: where a target cannot be loaded, or two cases have the same name.
        """
        cases = [case for target in self.targets for case in load(target)] or _builtin_cases()
        counts = Counter(case.name for case in cases)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise TargetError(f"{twice[0]}: {counts[twice[0]]} cases have this name")
        return [Task(self.options.applied(case), self.options.modes(case)) for case in cases]

    def missing(self) -> list[CaseResult]:
        """What is registered and has no case, where these are the project's own."""
        if self.targets:
            return []
        from compile_checks.cases import builtin_cases, uncovered

        return [
            CaseResult(name, AuditReport(findings=(Finding("missing-case", _no_case(name)),)))
            for name in uncovered(builtin_cases())
        ]


def _builtin_cases() -> list[Case]:
    from compile_checks.cases import builtin_cases  # only they need dmask

    return list(builtin_cases())


def _no_case(name: str) -> str:
    return f"no case in compile_checks/cases.py covers {name}"
