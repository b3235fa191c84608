"""Runs cases one after another in this process, or in worker processes."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NoReturn, Protocol, cast
from unittest import mock

import torch

from compile_checks._engine.findings import AuditReport, Finding, Kind
from compile_checks._engine.results import CaseResult
from compile_checks.command.progress import Progress
from compile_checks.rules import crash, timeout
from compile_checks.rules import error as errors


class AnyTask(Protocol):
    """Something to audit: a `Task`, a `FailedTask`, or an architecture of a survey."""

    @property
    def name(self) -> str: ...

    @property
    def ignore(self) -> Collection[Kind]: ...

    def run(self) -> list[tuple[str, AuditReport]]: ...

    def definition(self) -> tuple[str, int]: ...


Finished = Callable[[list[CaseResult]], object]
MakeTasks = Callable[[], Sequence[AnyTask]]
"""Creates the tasks in each process, always in the same order. It must be picklable."""


def run(
    make_tasks: MakeTasks,
    tasks: Sequence[AnyTask],
    progress: Progress,
    *,
    jobs: int = 1,
    isolate: bool = False,
    timeout: float | None = None,
    finished: Finished = lambda results: None,
) -> list[CaseResult]:
    """Runs all tasks.

    Args:
        make_tasks: creates `tasks` in another process.
        jobs: the number of processes that share the tasks.
        isolate: if True, each task runs in its own process. State that a case leaves behind does
            not affect other cases, and a crash becomes a finding.
        timeout: the number of seconds that a task may take in a worker process. A task that takes
            longer is killed and reported as a finding.
        finished: called with the results of each task, in the order in which tasks end.
    """
    if isolate or jobs > 1:
        pool = _Pool(make_tasks, tasks, progress, jobs, isolate, timeout, finished)
        return pool.run()
    results = []
    with exits_raise():
        for number, task in enumerate(tasks):
            progress.show(number, task.name)
            of_task = _run_one(task)
            finished(of_task)
            results += of_task
    return results


@contextlib.contextmanager
def exits_raise() -> Iterator[None]:
    """Turns `os._exit` into `SystemExit`, so that audited code cannot end the run unnoticed.

    Processes that the code forks may still use it.
    """
    ours, leave = os.getpid(), os._exit

    def exit_of_code(status: int) -> NoReturn:
        if os.getpid() != ours:
            leave(status)
        raise SystemExit(f"os._exit({status})")

    with mock.patch.object(os, "_exit", exit_of_code):
        yield


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Reserves standard output for the report, and hides Dynamo's warnings."""
    with without_warnings(), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Hides Dynamo's warnings, which the report repeats, unless logs are enabled."""
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    try:
        if not os.environ.get("TORCH_LOGS"):
            logger.setLevel(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)


def _run_one(task: AnyTask) -> list[CaseResult]:
    """Returns one result for each mode, with an equal share of the time."""
    began = time.perf_counter()
    try:
        reports = task.run()
    except SystemExit as error:  # the audited code must not choose the exit status
        reports = [(task.name, AuditReport(findings=(errors.finding(error),)))]
    seconds = (time.perf_counter() - began) / len(reports)
    return [_result(task, name, report, seconds) for name, report in reports]


def _result(task: AnyTask, name: str, report: AuditReport, seconds: float) -> CaseResult:
    file, line = task.definition()
    result = CaseResult(name, report, seconds=seconds, file=file, line=line)
    return result.ignoring(task.ignore)


@dataclass
class _Worker:
    process: BaseProcess
    task: int
    """The number of the task that it is running."""
    began: float = math.inf
    """When it reported that the task began. Starting a process and importing torch take time."""


class _Pool:
    """Worker processes that receive one task after another."""

    def __init__(
        self,
        make_tasks: MakeTasks,
        tasks: Sequence[AnyTask],
        progress: Progress,
        jobs: int,
        isolate: bool,
        timeout: float | None,
        finished: Finished,
    ) -> None:
        self._make_tasks, self._tasks, self._progress = make_tasks, tasks, progress
        self._jobs, self._isolate, self._timeout = jobs, isolate, timeout
        self._finished = finished
        self._waiting = list(reversed(range(len(tasks))))
        self._workers: dict[Connection, _Worker] = {}
        self._results: dict[int, list[CaseResult]] = {}

    def run(self) -> list[CaseResult]:
        try:
            while self._waiting or self._workers:
                while self._waiting and len(self._workers) < self._jobs:
                    self._start()
                for connection in wait(list(self._workers), self._seconds_to_wait()):
                    self._receive(cast(Connection, connection))
                self._end_overdue()
        finally:
            for worker in self._workers.values():  # interrupted
                worker.process.terminate()
        return [result for number in sorted(self._results) for result in self._results[number]]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads may hang
        connection, theirs = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self._jobs)
        process = context.Process(target=_work, args=(theirs, self._make_tasks, threads))
        process.start()
        theirs.close()  # so that the connection closes when the process exits
        self._workers[connection] = _Worker(process, -1)
        self._hand_out(connection)

    def _hand_out(self, connection: Connection) -> None:
        number = self._waiting.pop()
        self._progress.show(len(self._results), self._tasks[number].name)
        worker = self._workers[connection]
        worker.task, worker.began = number, math.inf
        _send(connection, number)

    def _receive(self, connection: Connection) -> None:
        worker = self._workers[connection]
        try:
            results = connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            self._keep(worker, self._crashed(worker))
            del self._workers[connection]
            return
        if results is None:
            worker.began = time.monotonic()
            return
        self._keep(worker, results)
        if self._waiting and not self._isolate:
            self._hand_out(connection)
            return
        _send(connection, None)
        worker.process.join()
        del self._workers[connection]

    def _seconds_to_wait(self) -> float | None:
        """Returns the number of seconds until the first task may be overdue."""
        if self._timeout is None:
            return None
        ends = (worker.began + self._timeout for worker in self._workers.values())
        first = min(ends)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _end_overdue(self) -> None:
        if self._timeout is None:
            return
        now = time.monotonic()
        for connection, worker in list(self._workers.items()):
            if now - worker.began >= self._timeout and not connection.poll():
                worker.process.kill()  # a hung process may ignore other signals
                worker.process.join()
                del self._workers[connection]
                finding = timeout.finding(self._timeout)
                self._keep(worker, self._ended(worker, finding, self._timeout))

    def _keep(self, worker: _Worker, results: list[CaseResult]) -> None:
        self._results[worker.task] = results
        self._finished(results)

    def _crashed(self, worker: _Worker) -> list[CaseResult]:
        return self._ended(worker, crash.finding(worker.process.exitcode or 0))

    def _ended(self, worker: _Worker, finding: Finding, seconds: float = 0.0) -> list[CaseResult]:
        """Returns the result of a task whose process ended early."""
        task, report = self._tasks[worker.task], AuditReport(findings=(finding,))
        return [_result(task, task.name, report, seconds)]


def _send(connection: Connection, number: int | None) -> None:
    with contextlib.suppress(OSError):  # the process has died; the next `recv` detects it
        connection.send(number)


def _work(connection: Connection, make_tasks: MakeTasks, threads: int) -> None:
    """Runs in a worker: receives task numbers and runs those tasks until it receives `None`.

    The worker sends `None` when it begins a task, then the results.
    """
    torch.set_num_threads(threads)
    try:
        with quietly():
            tasks = make_tasks()
            while (number := connection.recv()) is not None:
                connection.send(None)
                connection.send(_run_one(tasks[number]))
    except KeyboardInterrupt:  # the terminal sends it to all processes; the parent reports it
        sys.exit(130)
