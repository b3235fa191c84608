"""Runs cases: here one after the other, or in processes, so that they share the work or no fate."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from compile_checks.audit import Case
from compile_checks.findings import AuditReport, Finding
from compile_checks.progress import Progress
from compile_checks.results import CaseResult
from compile_checks.targets import definition

MakeCases = Callable[[], Sequence[Case]]
"""Makes the cases anew in each process, always in the same order. It can be pickled."""


def run(
    make_cases: MakeCases,
    cases: Sequence[Case],
    progress: Progress,
    *,
    jobs: int = 1,
    isolate: bool = False,
) -> list[CaseResult]:
    """Runs all cases.

    Args:
        make_cases: makes `cases` in another process.
        jobs: how many processes share the cases.
        isolate: whether each case has a process to itself. What a case leaves behind in its process
            then reaches no other, and one that crashes is a finding.
    """
    if not isolate and jobs == 1:
        return [_run_one(case, number, progress) for number, case in enumerate(cases)]
    return _Pool(make_cases, cases, progress, jobs=jobs, isolate=isolate).run()


def _run_one(case: Case, number: int, progress: Progress) -> CaseResult:
    progress.show(number, case.name)
    return _timed(case)


def _timed(case: Case) -> CaseResult:
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # what the audited code prints is no report
        report = case.run()
    seconds = time.perf_counter() - began
    file, line = definition(case.fn)
    return CaseResult(case.name, report, seconds=seconds, file=file, line=line)


@dataclass
class _Worker:
    process: BaseProcess
    case: int
    """The number of the case that it runs."""


class _Pool:
    """Processes that ask for one case after the other."""

    def __init__(
        self,
        make_cases: MakeCases,
        cases: Sequence[Case],
        progress: Progress,
        *,
        jobs: int,
        isolate: bool,
    ) -> None:
        self._make_cases, self._cases, self._progress = make_cases, cases, progress
        self._jobs, self._isolate = jobs, isolate
        self._waiting = list(reversed(range(len(cases))))
        self._workers: dict[Connection, _Worker] = {}
        self._results: dict[int, CaseResult] = {}

    def run(self) -> list[CaseResult]:
        try:
            while self._waiting or self._workers:
                while self._waiting and len(self._workers) < self._jobs:
                    self._start()
                for connection in wait(list(self._workers)):
                    assert isinstance(connection, Connection)
                    self._receive(connection)
        finally:
            for worker in self._workers.values():  # interrupted
                worker.process.terminate()
        return [self._results[number] for number in range(len(self._cases))]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a torch with threads may hang
        connection, theirs = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self._jobs)
        process = context.Process(target=_work, args=(theirs, self._make_cases, threads))
        process.start()
        theirs.close()  # so that the end of the process ends the connection
        self._workers[connection] = _Worker(process, -1)
        self._hand_out(connection)

    def _hand_out(self, connection: Connection) -> None:
        number = self._waiting.pop()
        self._progress.show(len(self._results), self._cases[number].name)
        self._workers[connection].case = number
        _send(connection, number)

    def _receive(self, connection: Connection) -> None:
        worker = self._workers[connection]
        try:
            self._results[worker.case] = connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            self._results[worker.case] = self._crashed(worker)
            del self._workers[connection]
            return
        if self._waiting and not self._isolate:
            self._hand_out(connection)
            return
        _send(connection, None)
        worker.process.join()
        del self._workers[connection]

    def _crashed(self, worker: _Worker) -> CaseResult:
        code = worker.process.exitcode or 0
        how = f"was ended by signal {-code}" if code < 0 else f"exited with status {code}"
        case = self._cases[worker.case]
        file, line = definition(case.fn)
        report = AuditReport(findings=(Finding("crash", f"the process of this case {how}"),))
        return CaseResult(case.name, report, file=file, line=line)


def _send(connection: Connection, number: int | None) -> None:
    with contextlib.suppress(OSError):  # it has died meanwhile, which the next `recv` tells
        connection.send(number)


def _work(connection: Connection, make_cases: MakeCases, threads: int) -> None:
    """What a process does: runs the cases whose numbers it receives, until it receives `None`."""
    torch.set_num_threads(threads)
    cases = make_cases()
    while (number := connection.recv()) is not None:
        connection.send(_timed(cases[number]))
