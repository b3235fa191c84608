"""The plan of a run: cases, each with the modes to audit it in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from compile_checks._engine.case import Case, audit_modes
from compile_checks._engine.costs import UNLIMITED, Limits
from compile_checks._engine.findings import AuditReport, Finding, Kind, Mode
from compile_checks._engine.gates import Gate
from compile_checks._engine.results import CaseResult
from compile_checks.command.targets import (
    TargetError,
    UserCodeError,
    definition,
    expanded,
    load,
    load_names,
)
from compile_checks.rules import missing_case

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


_LIMITS = ("max_entries", "max_guards", "max_seconds")
_SINGLE = ("mode", "dynamic", "backward", "backend", "budget", "time", *_LIMITS)


@dataclass(frozen=True)
class Options:
    """Options that override the fields of the cases. `None` keeps the value of each case."""

    mode: Literal["default", "fullgraph", "all", None] = None
    dynamic: Literal["auto", "true", "false", "all", None] = None
    backward: bool | None = None
    backend: str | None = None
    budget: int | None = None
    max_entries: int | None = None
    max_guards: int | None = None
    max_seconds: float | None = None
    time: bool | None = None
    gates: Collection[Gate] = ()
    """Gates to run in addition to those of the cases."""
    ignore: Collection[Kind] = ()
    """The kinds of findings that do not count."""

    def over(self, other: Options) -> Options:
        """Returns these options, and for those that are `None`, the other ones. Gates and ignored
        kinds add up.

        >>> both = Options(budget=2, ignore=("export",)).over(Options(budget=3, backend="eager"))
        >>> both.budget, both.backend, both.ignore
        (2, 'eager', ('export',))
        """
        changes: dict[str, Any] = {
            name: getattr(other, name) for name in _SINGLE if getattr(self, name) is None
        }
        for name in ("gates", "ignore"):
            changes[name] = tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
        return replace(self, **changes)

    @property
    def limits(self) -> Limits:
        """The limits that replace those of the cases, if there is any."""
        return Limits(self.max_entries, self.max_guards, self.max_seconds)

    def modes(self, case: Case) -> tuple[Mode, ...]:
        """Returns the modes to audit a case in, default before fullgraph."""
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
        """Returns a case as these options request. `Task` handles the modes."""
        changes: dict[str, Any] = {}
        if self.budget is not None:
            changes["max_graphs"] = self.budget
        if self.limits != UNLIMITED:
            changes["limits"] = self.limits
        if self.time is not None:
            changes["time"] = self.time
        if self.gates:
            changes["gates"] = tuple(dict.fromkeys((*case.gates, *self.gates)))
        return replace(case, **changes)


class Target(NamedTuple):
    """What to audit, and how."""

    name: str
    options: Options = Options()


@dataclass(frozen=True)
class Task:
    """A case and the modes to audit it in."""

    case: Case
    modes: tuple[Mode, ...]
    ignore: Collection[Kind] = ()
    """The kinds of findings that do not count."""

    @property
    def name(self) -> str:
        """The name of the case."""
        return self.case.name

    @property
    def covers(self) -> str:
        """The required name that the case covers."""
        return self.case.covers

    def run(self) -> list[tuple[str, AuditReport]]:
        """Returns a name and a report for each mode."""
        reports = audit_modes(self.case, self.modes)
        return [(self._named(mode), report) for mode, report in reports.items()]

    def definition(self) -> tuple[str, int]:
        """Returns the file and line of the audited callable."""
        return definition(self.case.fn)

    def _named(self, mode: Mode) -> str:
        return self.name if len(self.modes) == 1 else f"{self.name}, {mode}"


@dataclass(frozen=True)
class FailedTask:
    """A target whose code raised before it could be audited."""

    name: str
    finding: Finding
    covers: str = ""
    ignore: Collection[Kind] = ()

    def run(self) -> list[tuple[str, AuditReport]]:
        """Returns a report of the exception."""
        return [(self.name, AuditReport(findings=(self.finding,)))]

    def definition(self) -> tuple[str, int]:
        """Returns the file and line that raised the exception."""
        return self.finding.file, self.finding.line


@dataclass(frozen=True)
class Plan:
    """A plan of what to audit. Picklable, so that other processes can create the same tasks."""

    targets: tuple[Target, ...]
    required: str = ""
    """The `module:callable` that returns the names that cases must cover. May be empty."""
    root: Path = Path()
    """The folder that the paths of targets are relative to."""
    required_root: Path = Path()
    """The folder that `required` is looked up in."""

    def tasks(self) -> list[Task | FailedTask]:
        """Creates the tasks, always in the same order.

        A target whose code raises becomes a task that reports the exception.

        Raises:
            TargetError: if a target cannot be loaded, or if two cases have the same name.
        """
        tasks: list[Task | FailedTask] = []
        for name, options in self.targets:
            for target in expanded(name, self.root):
                tasks += self._tasks_of(target, options)
        counts = Counter(task.name for task in tasks)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise TargetError(f"{twice[0]}: {counts[twice[0]]} cases have this name")
        return tasks

    def _tasks_of(self, target: str, options: Options) -> list[Task | FailedTask]:
        try:
            cases = load(target, self.root)
        except UserCodeError as raised:
            return [FailedTask(target, raised.finding, ignore=options.ignore)]
        return [Task(options.applied(case), options.modes(case), options.ignore) for case in cases]

    def missing(self, tasks: Sequence[Task | FailedTask]) -> list[CaseResult]:
        """Returns a result for each required name that no task covers.

        Args:
            tasks: the tasks of all targets. They are loaded before the names are listed, so that
                the result does not depend on the order in which modules register their names.

        Raises:
            TargetError: if the required names cannot be loaded.
        """
        if not self.required:
            return []
        required = load_names(self.required, self.required_root)
        covered = [task.covers for task in tasks]
        return [
            CaseResult(name, AuditReport(findings=(finding,)))
            for name, finding in missing_case.check(required, covered, self.required)
        ]
