"""Turns Dynamo's structured trace into Python objects while Dynamo compiles.

Dynamo keeps several counts of its graph breaks, and each misses some kind of break. Its structured
trace, the records that `TORCH_TRACE` writes to disk, has them all. The handler below receives the
records from their logger. A record contains the user's stack only as text. But Dynamo emits the
record while it is still processing the event, so the handler can read the stack directly.

Torch 2.9 is an exception: two kinds of break have no record of their own. If no part of a frame
could be compiled, there is only the record of the error. If Dynamo steps back to the last statement
that it can resume from, there is only a line in its debug log. A break that is reported twice is
added once.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from traceback import FrameSummary
from typing import Any, Final

from compile_checks import _compat
from compile_checks._engine.breaks import break_of, loop_hint, stack_of
from compile_checks._engine.findings import GraphBreak, Recompile, headline
from compile_checks._engine.guards import as_called, cause, read_guard
from compile_checks._engine.places import (
    calling_line,
    guarded_line,
    is_library,
    owner_of,
    traced_line,
)
from compile_checks.rules.graph_break import REJECTED

RECORDS: Final = ("compilation_metrics", "dynamo_output_graph", "dynamo_start")
"""The records that a `Trace` reads."""
ARTIFACTS: Final = ("dynamo_error", "dynamo_graph_break_reason", "recompile_reasons")
"""The records named `artifact` that a `Trace` reads, by the name of the artifact."""


@dataclass
class Compilation:
    """One attempt of Dynamo to compile a frame."""

    compile_id: str = ""
    name: str = ""
    file: str = ""
    line: int = 0
    started: bool = False
    """False past the recompile limit: Dynamo then rejects the frame before it starts."""
    ended: bool = False
    graph: str | None = None
    """The graph as readable Python."""
    breaks: list[GraphBreak] = field(default_factory=list)
    lines: list[tuple[str, int]] = field(default_factory=list)
    """The traced line of each break. The place of a break may be that of a caller."""
    broken_lines: set[int] = field(default_factory=set)
    """The lines of the frame itself at the breaks, which may be in functions that it calls."""
    breaks_met: int = 0
    """The number of times Dynamo hit a break. After a restart it hits the same breaks again."""
    recompile_reasons: tuple[str, ...] | None = None
    cause: str = ""
    """The reason that says most about the recompile."""
    caller: tuple[str, int] = ("", 0)
    """Your line that called a frame that was compiled again. The file is empty if the audit did."""
    failure: str | None = None
    """Why there is no compiled code for this frame."""
    ops: int = 0
    guards: int = 0
    seconds: float = 0.0
    skipped: bool = False
    """True if Dynamo skipped the frame. For a break in a loop, torch 2.9 reports no failure."""

    def add(self, found: GraphBreak, traced: Sequence[FrameSummary]) -> None:
        """Adds a break.

        A rejection has two records. While Dynamo handles the backend's error, it does not know what
        it traced, so the break that it raises then takes the place of the first.

        Args:
            traced: the frames that Dynamo traced, innermost last.
        """
        line = traced_line(traced)
        if traced:
            self.broken_lines.add(traced[0].lineno or 0)
        if found.reason.startswith(REJECTED):
            for number, known in enumerate(self.breaks):
                if known.reason == found.reason:
                    self.breaks[number], self.lines[number] = found, line
                    return
        self.breaks.append(found)
        self.lines.append(line)

    @property
    def has_graph(self) -> bool:
        """True if there is a graph and the backend compiled it."""
        return self.graph is not None and self.failure is None

    @property
    def resumed(self) -> bool:
        """True if the frame continued after its breaks."""
        return self.failure is None and not self.skipped

    def as_recompile(self, parameters: Sequence[str] = ()) -> Recompile | None:
        """Returns why Dynamo compiled the frame again, or None if this is its first compilation.

        Args:
            parameters: the names of the parameters of the audited function.
        """
        if self.recompile_reasons is None:
            return None
        failed = read_guard(self.cause)
        file, line = guarded_line(failed.places, self.file)
        if not file and self.file and is_library(self.file):
            file, line = self.caller
        return Recompile(
            self.recompile_reasons,
            self.file,
            self.line,
            category=failed.category,
            guard=failed.guard,
            argument=as_called(failed.argument, parameters),
            owner=owner_of(self.file) if self.file else "",
            compile_id=self.compile_id,
            hint=failed.hint,
            guard_file=file,
            guard_line=line,
            frame=self.name,
        )


class Trace(logging.Handler):
    """Collects the records of Dynamo's structured trace into compilations, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.compilations: list[Compilation] = []
        self._by_id: dict[tuple[Any, ...], Compilation] = {}
        self._frames: dict[tuple[Any, ...], Compilation] = {}
        self._changed: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
        """The arguments that the recompiles of each frame are about."""
        # The audited code may run in an `except` block. That exception is not Dynamo's.
        self._outer_error = sys.exc_info()[1]

    def emit(self, record: logging.LogRecord) -> None:
        """Reads a record of the structured trace."""
        metadata: Mapping[str, Any] = getattr(record, "metadata", {})
        payload: str = getattr(record, "payload", None) or ""
        match metadata:
            case {"artifact": {"name": "recompile_reasons"}}:
                recompiled = self._begin(metadata)
                recompiled.recompile_reasons = _reasons(payload)
                changed = self._changed[_compile_id(metadata)[:2]]
                recompiled.cause = cause(recompiled.recompile_reasons, changed)
                changed.add(read_guard(recompiled.cause).argument)
                recompiled.caller = calling_line()
            case {"dynamo_start": _}:
                self._begin(metadata).started = True
                if not metadata.get("frame_compile_id"):
                    self._changed.pop(_compile_id(metadata)[:2], None)
            case {"artifact": {"name": "dynamo_graph_break_reason"}}:
                self._add_break(self._current(metadata), payload)
            case {"artifact": {"name": "dynamo_error"}}:
                self._add_unlogged(self._current(metadata), sys.exc_info()[1])
            case {"dynamo_output_graph": _}:
                self._current(metadata).graph = payload
            case {"compilation_metrics": metrics}:
                self._end(metadata, metrics)

    def add_logged(self, record: logging.LogRecord) -> None:
        """Reads a record of Dynamo's debug log and adds the break that it describes, if any."""
        stepped_back = record.exc_info and record.msg == "step triggered compile"
        if stepped_back and (compile_id := _compat.current_compile_id()):
            self._add_unlogged(self._current(vars(compile_id)), sys.exc_info()[1])

    def _begin(self, metadata: Mapping[str, Any]) -> Compilation:
        """Returns the compilation that a frame's first record belongs to.

        Ids start over after `torch.compiler.reset()`, so a record with the id of a compilation that
        has ended begins a new one.
        """
        compilation = self._current(metadata)
        if not (compilation.ended or compilation.started):
            return compilation
        del self._by_id[_compile_id(metadata)]
        return self._current(metadata)

    def _current(self, metadata: Mapping[str, Any]) -> Compilation:
        key = _compile_id(metadata)
        if key not in self._by_id:
            earlier = self._frames.get(key[:2], Compilation())
            self._by_id[key] = Compilation(
                f"{key[1]}/{key[2]}", earlier.name, earlier.file, earlier.line
            )
            self.compilations.append(self._by_id[key])
        return self._by_id[key]

    def _end(self, metadata: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        compilation = self._current(metadata)
        compilation.ended = True
        if metrics.get("fail_type") is not None:
            compilation.failure = metrics.get("fail_reason") or metrics["fail_type"]
        compilation.skipped = metrics.get("graph_op_count", 0) is None  # 0 for a graph without ops
        compilation.ops = metrics.get("graph_op_count") or 0
        compilation.guards = metrics.get("guard_count") or 0
        compilation.seconds = metrics.get("entire_frame_compile_time_s") or 0.0
        # Past the recompile limit, the record has no code name. Earlier compilations have it.
        if metrics.get("co_filename") is not None:
            compilation.name = metrics.get("co_name", "")
            compilation.file = metrics["co_filename"]
            compilation.line = metrics.get("co_firstlineno", 0)
            self._frames[_compile_id(metadata)[:2]] = compilation
        if compilation.breaks and compilation.skipped and compilation.failure is None:
            _say_loop(compilation)

    def _add_break(self, compilation: Compilation, payload: str) -> None:
        error = sys.exc_info()[1]
        dynamos = None if error is self._outer_error else error
        graph_break = break_of(dynamos, payload, compilation.compile_id)
        compilation.breaks_met += 1
        # Dynamo may restart within one compilation and hit the same break again.
        if graph_break not in compilation.breaks:
            compilation.add(graph_break, stack_of(dynamos, payload))

    def _add_unlogged(self, compilation: Compilation, error: BaseException | None) -> None:
        """Adds the break that an exception describes, unless a record has already added it."""
        if not _compat.is_break(error) or error is self._outer_error:
            return
        found = break_of(error, "", compilation.compile_id)
        known = {(b.file, b.line, headline(b.reason)) for b in compilation.breaks}
        if (found.file, found.line, headline(found.reason)) not in known:
            compilation.add(found, stack_of(error, ""))
            compilation.breaks_met += 1


def _say_loop(compilation: Compilation) -> None:
    """Adds what a break in a loop costs, which the text of the break lacks in torch 2.9."""
    last, hint = compilation.breaks[-1], loop_hint(compilation.name, compilation.line)
    if hint not in last.hint:
        hints = [*last.hint.splitlines(), hint]
        compilation.breaks[-1] = replace(last, hint="\n".join(hints))


def _compile_id(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        metadata.get(key) for key in ("compiled_autograd_id", "frame_id", "frame_compile_id")
    )


def _reasons(payload: str) -> tuple[str, ...]:
    """Returns the reasons of a recompile.

    The payload is a JSON list or, since torch 2.13, plain text if there is only one reason.
    """
    reasons = json.loads(payload) if payload.startswith("[") else [payload]
    return tuple(reason.strip() for reason in reasons)
