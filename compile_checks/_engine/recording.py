"""Records Dynamo's structured trace for the duration of a block."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

from compile_checks import _compat
from compile_checks._engine.trace import ARTIFACTS, RECORDS, Trace


class _Handlers(list[logging.Handler]):
    """The handlers of the trace's logger. The list looks empty for records that no handler reads.

    PyTorch builds a record whenever its logger has a handler, even if the handler ignores it:
    thirty records for one small graph, with the text of every graph and guard. That took 8% of a
    compilation with `aot_eager`; building only the records that are read takes 2%.

    Iterating skips pytest's handlers. pytest 9 adds them to every logger that does not propagate.
    A failing test would then print an empty line for each record, because a record of the trace has
    no message.
    """

    def __init__(self, handlers: Iterable[logging.Handler]) -> None:
        super().__init__(handlers)
        self._traces = [handler for handler in self.all() if isinstance(handler, Trace)]
        self._builder = _compat.trace_structured_code()

    def __iter__(self) -> Iterator[logging.Handler]:
        return (handler for handler in self.all() if not _is_pytest(handler))

    def replace(self, others: Sequence[logging.Handler]) -> None:
        """Replaces all handlers but those that record."""
        self[:] = [*others, *(trace for trace in self._traces if trace not in others)]

    def clear(self) -> None:
        """Removes all handlers but those that record."""
        self.replace([])

    def remove(self, handler: logging.Handler) -> None:
        """Removes a handler, unless it records."""
        if handler not in self._traces:
            super().remove(handler)

    def all(self) -> Iterator[logging.Handler]:
        """Iterates over all handlers."""
        return super().__iter__()

    def __bool__(self) -> bool:
        caller = sys._getframe(1)
        metadata_of = caller.f_locals.get("metadata_fn")
        others = any(not isinstance(handler, Trace) for handler in self)
        if caller.f_code is not self._builder or metadata_of is None or others:
            return any(True for _ in self)
        if caller.f_locals["name"] == "artifact":
            return metadata_of()["name"] in ARTIFACTS
        return caller.f_locals["name"] in RECORDS


def _kept(cls: type[logging.Logger], recorded: _Handlers) -> type[logging.Logger]:
    """Returns a class of logger whose handlers can be replaced, except for those that record."""

    class Kept(cls):  # type: ignore[valid-type, misc]
        @property
        def handlers(self) -> _Handlers:
            return recorded

        @handlers.setter
        def handlers(self, others: Iterable[logging.Handler]) -> None:
            recorded.replace([*others])

    return Kept


def _is_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest.")


@contextmanager
def record() -> Iterator[Trace]:
    """Records Dynamo's structured trace for the duration of a block.

    The loggers are restored afterwards, including torch's own handler, which removes itself at the
    first record if it has no directory to write to. Whatever the code does to logging, such as
    `logging.disable`, `logging.config`, which disables loggers that it does not know, or removing
    all handlers, hides nothing from the trace.
    """
    logger = _compat.trace_logger()
    handlers, level, cls = logger.handlers, logger.level, type(logger)
    before, trace = [*handlers], Trace()
    recorded = _Handlers([*before, trace])
    logger.__class__ = _kept(cls, recorded)
    logger.setLevel(logging.DEBUG)

    def handle(record: logging.LogRecord) -> None:
        if passed := logger.filter(record):  # since Python 3.12, a filter may replace the record
            logger.callHandlers(passed if isinstance(passed, logging.LogRecord) else record)

    always: AbstractContextManager[Any] = mock.patch.multiple(
        logger, isEnabledFor=lambda level: True, handle=handle
    )
    try:
        with always, nullcontext() if _compat.trace_has_all_breaks() else _debug_log_of(trace):
            yield trace
    finally:
        added = [h for h in recorded.all() if h is not trace and h not in before]
        logger.__class__ = cls
        handlers[:] = before + added
        logger.handlers = handlers
        logger.setLevel(level)


def _debug_log_of(trace: Trace) -> AbstractContextManager[Any]:
    """Passes Dynamo's debug log to a trace, and to the logger's handlers as before.

    This parses no text. It recognizes a step back by its constant message. The break is the
    exception that Dynamo is handling at that time, which no function of Dynamo takes or returns.
    Setting the logger's level instead would make its children print the bytecode and the source.
    """
    logger = _compat.debug_logger()
    enabled, handle = logger.isEnabledFor, logger.handle

    def shown(record: logging.LogRecord) -> None:
        trace.add_logged(record)
        if enabled(record.levelno):
            handle(record)

    patch: AbstractContextManager[Any] = mock.patch.multiple(
        logger, isEnabledFor=lambda level: True, handle=shown
    )
    return patch
