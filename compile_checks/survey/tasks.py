"""What a survey audits of each architecture."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from typing import Final

from compile_checks._engine.case import Case
from compile_checks._engine.findings import AuditReport, Kind
from compile_checks._engine.scenarios import steps_of
from compile_checks._engine.state import seed
from compile_checks.survey.instance import Instance
from compile_checks.survey.libraries import library
from compile_checks.survey.rows import ABSENT

PASSES: Final = ("forward", "training", "decode")


@dataclass(frozen=True)
class SurveyTask:
    """One architecture of a library, and the passes to audit."""

    library: str
    architecture: str
    passes: tuple[str, ...]
    backend: str
    ignore: tuple[Kind, ...] = ()

    @property
    def name(self) -> str:
        """The name that rows and the progress bar show."""
        return f"{self.library}/{self.architecture}"

    def definition(self) -> tuple[str, int]:
        """Returns no place: findings of models have their own."""
        return "", 0

    def run(self) -> list[tuple[str, AuditReport]]:
        """Audits the passes. What cannot be built, or called in eager mode, is not surveyed: the
        report has no findings and a note.
        """
        warnings.filterwarnings("ignore")
        reports = []
        for name in self.passes:
            try:
                case = self._case(name)
            except Exception as error:  # whatever the library raises for our inputs
                reports.append((name, AuditReport(notes=(_not_surveyed(error),))))
                continue
            if case is not None:
                reports.append((name, case.run()))
        if not reports:  # one row must keep what was asked for
            reports.append((self.passes[0], AuditReport(notes=(ABSENT,))))
        return [(f"{self.name}, {name}", report) for name, report in reports]

    def _case(self, name: str) -> Case | None:
        """Builds a pass and calls it in eager mode. Returns `None` if the model has no such pass.

        Each pass has its own instance: a model may keep state that depends on the calls before.
        """
        seed()
        instance: Instance = library(self.library).build(self.architecture)
        model, calls = instance.model, instance.calls
        if name == "decode":
            model, calls = instance.decoder, instance.steps
        if model is None:
            return None
        training = name == "training"
        model.train(training).requires_grad_(training)
        for step in steps_of(calls):
            model(*step.args, **step.kwargs)
        return Case(self.name, model, calls, backward=training, backend=self.backend, compare=False)


def _not_surveyed(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"not surveyed: {type(error).__name__}: {lines[0]}"


@dataclass(frozen=True)
class Survey:
    """What to survey. Picklable, so that other processes can create the same tasks."""

    libraries: tuple[str, ...]
    only: str
    """A regular expression that names must contain."""
    done: frozenset[tuple[str, str]]
    """Names and passes to leave out."""
    passes: tuple[str, ...]
    backend: str

    def tasks(self) -> list[SurveyTask]:
        """Returns a task for each architecture with passes to audit, always in the same order."""
        tasks = (replace(task, passes=self._rest(task)) for task in self.everything())
        return [task for task in tasks if task.passes]

    def _rest(self, task: SurveyTask) -> tuple[str, ...]:
        return tuple(name for name in task.passes if (task.name, name) not in self.done)

    def everything(self) -> list[SurveyTask]:
        """Returns a task for each architecture, also for those to leave out."""
        tasks = [
            SurveyTask(name, architecture, self.passes, self.backend)
            for name in self.libraries
            for architecture in library(name).names()
        ]
        wanted = re.compile(self.only)
        return [task for task in tasks if wanted.search(task.name)]
