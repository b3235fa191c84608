"""Runs a Python program as `python` does, and watches what it compiles."""

from __future__ import annotations

import concurrent.futures.process
import concurrent.futures.thread
import os
import runpy
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from unittest import mock

import torch

from compile_checks._engine.costs import Limits
from compile_checks._engine.findings import AuditReport
from compile_checks._engine.results import CaseResult, Results
from compile_checks._engine.watching import watch
from compile_checks.command.runner import exits_raise, without_warnings
from compile_checks.command.targets import TargetError
from compile_checks.rules import error as errors

_RUNPY = runpy.__file__, "<frozen runpy>"
INTERRUPTED = "the program was interrupted: what it would have compiled later is unknown"


class Program(NamedTuple):
    """A program and its arguments, as on the command line of `python`."""

    name: str
    """A path, or the name of a module."""
    is_module: bool
    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The folder that the program imports from first."""
        return os.getcwd() if self.is_module else str(Path(self.name).resolve().parent)

    def run(self) -> None:
        """Runs the program in this process."""
        if self.is_module:
            runpy.run_module(self.name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(self.name, run_name="__main__")


def program_of(command: Sequence[str]) -> Program:
    """Returns the program of a command, `FILE ARGS...` or `-m MODULE ARGS...`.

    Raises:
        TargetError: if there is no such file or module.
    """
    if command[0] == "-m":
        program = Program(command[1], True, tuple(command[2:]))
        with mock.patch.object(sys, "path", [program.folder, *sys.path]):
            if find_spec(program.name.partition(".")[0]) is None:  # imports nothing
                raise TargetError(f"--watch: no module named {program.name}")
        return program
    if not Path(command[0]).is_file():
        raise TargetError(f"--watch: no such file: {command[0]}")
    return Program(command[0], False, tuple(command[1:]))


def watched(program: Program, max_graphs: int | None, limits: Limits) -> tuple[Results, int]:
    """Runs a program to its end, or until it is interrupted.

    Returns:
        What it compiled, and its exit status.
    """
    began = time.perf_counter()
    error: BaseException | None = None
    with (
        watch(max_graphs=max_graphs, limits=limits) as seen,
        mock.patch.object(sys, "argv", [program.name, *program.arguments]),
        mock.patch.object(sys, "path", [program.folder, *sys.path]),
        exits_raise(),
        without_warnings(),
    ):
        try:
            program.run()
            _join_threads()
        except BaseException as raised:  # a program may end by any of them
            error = raised
    report, status = _ended(seen.report(), error)
    seconds = time.perf_counter() - began
    return Results((CaseResult(program.name, report, seconds=seconds),), torch.__version__), status


def _ended(report: AuditReport, error: BaseException | None) -> tuple[AuditReport, int]:
    """Returns the report with how the program ended, and its exit status."""
    match error:
        case None | SystemExit(code=None):
            return report, 0
        case KeyboardInterrupt():
            return replace(report, notes=(*report.notes, INTERRUPTED)), 0
        case SystemExit(code=int(status)):
            return report, status
        case SystemExit(code=message):
            print(message, file=sys.stderr)
            return report, 1
        case _:
            traceback.print_exception(error.with_traceback(_in_program(error.__traceback__)))
            return replace(report, findings=(*report.findings, errors.finding(error))), 1


def _join_threads() -> None:
    """Waits for the threads that Python would wait for at the end of a program.

    Python first asks the pools of `concurrent.futures` to finish. Without that, joining an idle
    worker, such as those of Inductor, would wait forever.
    """
    with (
        mock.patch.object(concurrent.futures.thread, "_shutdown", False),
        mock.patch.object(concurrent.futures.process, "_global_shutdown", False),
    ):
        for finish in reversed(getattr(threading, "_threading_atexits", ())):
            finish()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()


def _in_program(trace: TracebackType | None) -> TracebackType | None:
    """Returns a traceback without the frames that run the program."""
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, *_RUNPY):
        trace = trace.tb_next
    return trace
