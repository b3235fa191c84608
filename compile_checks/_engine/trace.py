"""What Dynamo says of itself while it compiles: its structured trace, as Python objects.

Dynamo keeps several counts of its graph breaks, and each of them misses some kind. Its structured
trace, the records that `TORCH_TRACE` writes to disk, has them all. A handler takes them off their
logger here. The records have user stacks as text only; but each is logged while Dynamo deals with
what it tells of, so that the handler can ask for the stack itself.

Torch 2.9 has no record of its own for two kinds: where nothing of a frame could be compiled there
is only the one of the error, and where Dynamo goes back to the last statement that it can resume
from there is a line in its debug log. Releases that tell of a break in both ways are heard once.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from torch._dynamo.exc import Unsupported
from torch._guards import CompileContext

from compile_checks._engine.breaks import break_of, headline
from compile_checks._engine.findings import GraphBreak, Recompile
from compile_checks._engine.guards import as_called, latest, read_guard
from compile_checks._engine.places import owner_of

RECORDS: Final = ("compilation_metrics", "dynamo_output_graph", "dynamo_start")
ARTIFACTS: Final = ("dynamo_error", "dynamo_graph_break_reason", "recompile_reasons")
"""The records that a `Trace` reads, and those among them that are named as artifacts."""


@dataclass
class Compilation:
    """One frame that Dynamo set out to compile."""

    compile_id: str = ""
    name: str = ""
    file: str = ""
    line: int = 0
    started: bool = False
    """Past the recompile limit, Dynamo turns away before it starts."""
    ended: bool = False
    graph: str | None = None
    """The graph as readable Python."""
    breaks: list[GraphBreak] = field(default_factory=list)
    breaks_met: int = 0
    """The same, and each time anew that Dynamo started over and met one of them again."""
    recompile_reasons: tuple[str, ...] | None = None
    failure: str | None = None
    """Why there is no compiled code for this frame."""
    skipped: bool = False
    """Torch 2.9 names no failure where it skips a frame for a break in a loop."""

    @property
    def has_graph(self) -> bool:
        """Whether a graph was made, and the backend took it."""
        return self.graph is not None and self.failure is None

    @property
    def resumed(self) -> bool:
        """Whether the frame went on behind its breaks, if it had any."""
        return self.failure is None and not self.skipped

    def recompile(self, parameters: Sequence[str] = ()) -> Recompile | None:
        """Why the frame was compiled anew, where it was.

        Args:
            parameters: the names of those of the audited function.
        """
        if self.recompile_reasons is None:
            return None
        failed = read_guard(latest(self.recompile_reasons))
        return Recompile(
            self.recompile_reasons,
            self.file,
            self.line,
            category=failed.category,
            guard=failed.guard,
            argument=as_called(failed.argument, parameters),
            owner=owner_of(self.file) if self.file else "",
            compile_id=self.compile_id,
        )


class Trace(logging.Handler):
    """Gathers the records of Dynamo's structured trace into compilations, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.compilations: list[Compilation] = []
        self._by_id: dict[tuple[Any, ...], Compilation] = {}
        self._frames: dict[tuple[Any, ...], Compilation] = {}
        # The audited code may run inside an `except` block, whose exception is not Dynamo's.
        self._outer_error = sys.exc_info()[1]

    def emit(self, record: logging.LogRecord) -> None:
        metadata: Mapping[str, Any] = getattr(record, "metadata", {})
        payload: str = getattr(record, "payload", None) or ""
        match metadata:
            case {"artifact": {"name": "recompile_reasons"}}:
                self._begin(metadata).recompile_reasons = _reasons(payload)
            case {"dynamo_start": _}:
                self._begin(metadata).started = True
            case {"artifact": {"name": "dynamo_graph_break_reason"}}:
                self._add_break(self._current(metadata), payload)
            case {"artifact": {"name": "dynamo_error"}}:
                self._add_unlogged(self._current(metadata), sys.exc_info()[1])
            case {"dynamo_output_graph": _}:
                self._current(metadata).graph = payload
            case {"compilation_metrics": metrics}:
                self._end(metadata, metrics)

    def add_logged(self, record: logging.LogRecord) -> None:
        """Adds the break, if there is one, of which a record of Dynamo's debug log speaks."""
        stepped_back = record.exc_info and record.msg == "step triggered compile"
        if stepped_back and (compile_id := CompileContext.current_compile_id()):
            self._add_unlogged(self._current(vars(compile_id)), sys.exc_info()[1])

    def _begin(self, metadata: Mapping[str, Any]) -> Compilation:
        """The compilation that a frame's first records speak of.

        Ids begin anew after `torch.compiler.reset()`: one that has ended is another's.
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
        if metrics["fail_type"] is not None:
            compilation.failure = metrics["fail_reason"] or metrics["fail_type"]
        compilation.skipped = metrics["graph_op_count"] is None  # 0 for a graph without ops
        # Past the recompile limit the code is not named; the frame's earlier compilations name it.
        if metrics["co_filename"] is not None:
            compilation.name = metrics["co_name"]
            compilation.file = metrics["co_filename"]
            compilation.line = metrics["co_firstlineno"]
            self._frames[_compile_id(metadata)[:2]] = compilation

    def _add_break(self, compilation: Compilation, payload: str) -> None:
        error = sys.exc_info()[1]
        known = None if error is self._outer_error else error
        graph_break = break_of(known, payload, compilation.compile_id)
        compilation.breaks_met += 1
        # Dynamo may start over within one compilation, and then meets the same break again.
        if graph_break not in compilation.breaks:
            compilation.breaks.append(graph_break)

    def _add_unlogged(self, compilation: Compilation, error: BaseException | None) -> None:
        """Adds a break that Dynamo acted on, unless it has told of it already."""
        if not isinstance(error, Unsupported) or error is self._outer_error:
            return
        found = break_of(error, "", compilation.compile_id)
        known = {(b.file, b.line, headline(b.reason)) for b in compilation.breaks}
        if (found.file, found.line, headline(found.reason)) not in known:
            compilation.breaks.append(found)
            compilation.breaks_met += 1


def _compile_id(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        metadata.get(key) for key in ("compiled_autograd_id", "frame_id", "frame_compile_id")
    )


def _reasons(payload: str) -> tuple[str, ...]:
    """The payload is a JSON list, or from 2.13 on the plain text where there is one reason."""
    reasons = json.loads(payload) if payload.startswith("[") else [payload]
    return tuple(reason.strip() for reason in reasons)
