"""Takes the records of Dynamo's structured trace off their logger for the time of a block."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

from torch._dynamo.symbolic_convert import InstructionTranslatorBase
from torch._logging._internal import trace_structured

from compile_checks._engine.trace import ARTIFACTS, RECORDS, Trace

_LOGGER = logging.getLogger("torch.__trace")
_DEBUG_LOGGER = logging.getLogger("torch._dynamo.symbolic_convert")

# Whether Dynamo's trace tells of a break before Dynamo goes back to where it can resume from. It
# does so where the method that goes back logs the break: not in torch 2.9.
_HAS_ALL_BREAKS = "log_graph_break" in InstructionTranslatorBase.step.__code__.co_names


class _Handlers(list[logging.Handler]):
    """The handlers of the trace's logger, which seem to be none where a record is not read.

    PyTorch builds a record wherever its logger has a handler, however little the handler wants it:
    thirty times for one small graph, with the text of each graph and of all guards. That cost 8 %
    of a compilation by `aot_eager`; the records that are read cost 2 %.
    """

    def __bool__(self) -> bool:
        asking = sys._getframe(1)
        metadata_of = asking.f_locals.get("metadata_fn")
        others = any(not isinstance(handler, Trace) for handler in self)
        if asking.f_code is not trace_structured.__code__ or metadata_of is None or others:
            return len(self) > 0
        if asking.f_locals["name"] == "artifact":
            return metadata_of()["name"] in ARTIFACTS
        return asking.f_locals["name"] in RECORDS


@contextmanager
def record() -> Iterator[Trace]:
    """Records Dynamo's structured trace for the time of a block.

    The loggers are left as they were found, torch's own handler included, which takes itself off at
    the first record where it has no directory to write to.
    """
    handlers, level, disabled = _LOGGER.handlers, _LOGGER.level, _LOGGER.disabled
    before, trace = [*handlers], Trace()
    _LOGGER.handlers = _Handlers([*before, trace])
    _LOGGER.setLevel(logging.DEBUG)
    _LOGGER.disabled = False  # logging.config disables the loggers it does not know
    try:
        if not _LOGGER.isEnabledFor(logging.DEBUG):
            raise RuntimeError("logging.disable() hides Dynamo's trace, which an audit reads")
        with nullcontext() if _HAS_ALL_BREAKS else _debug_log_of(trace):
            yield trace
    finally:
        added = [h for h in _LOGGER.handlers if h is not trace and h not in before]
        handlers[:] = before + added
        _LOGGER.handlers = handlers
        _LOGGER.setLevel(level)
        _LOGGER.disabled = disabled


def _debug_log_of(trace: Trace) -> AbstractContextManager[Any]:
    """Shows a trace the exceptions in Dynamo's debug log, and lets pass what passed before.

    No text is parsed: the record of a step back is known by its constant message, and what broke is
    the exception that Dynamo is then handling, which no function of Dynamo's is given or returns.
    Not by the logger's level, which those of the bytecode and the source, its children, would take
    over and print.
    """
    enabled, handle = _DEBUG_LOGGER.isEnabledFor, _DEBUG_LOGGER.handle

    def shown(record: logging.LogRecord) -> None:
        trace.add_logged(record)
        if enabled(record.levelno):
            handle(record)

    patch: AbstractContextManager[Any] = mock.patch.multiple(
        _DEBUG_LOGGER, isEnabledFor=lambda level: True, handle=shown
    )
    return patch
