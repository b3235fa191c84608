"""The one place that reads private APIs of Dynamo, Inductor, `torch._guards` and `torch._logging`.

Any release of PyTorch may rename or change one of them. Each API is looked up when it is used. If
it is missing or has changed, the audit uses the fallback given here, continues without the detector
that needs it, and adds a note to the report.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from traceback import FrameSummary, walk_tb
from types import CodeType
from typing import Any, Final
from unittest import mock

import torch
import torch._dynamo

from compile_checks._private_api import PrivateAPI

TRACE_LOGGER: Final = "torch.__trace"
"""The logger of Dynamo's structured trace. It has no fallback: see `silent_trace`."""
DEBUG_LOGGER: Final = "torch._dynamo.symbolic_convert"
WRAPPER_FILE: Final = os.path.join(os.path.dirname(torch._dynamo.__file__), "external_utils.py")
"""The file of the function that torch 2.15 compiles around a `forward` of PyTorch's own."""


def notes(used: Collection[str] = ()) -> tuple[str, ...]:
    """Returns a note for each API that is missing or has changed.

    Args:
        used: the gates and the backend of the audit. APIs that none of them needs are left out.
    """
    needed = [api for api in APIS if not api.only_for or api.only_for in used]
    return tuple(api.note() for api in needed if api.get() is None)


# ------------------------------------------------------------------ errors, stacks, ids

UNSUPPORTED = PrivateAPI(
    "torch._dynamo.exc:Unsupported",
    "graph-break: other errors of Dynamo may be reported as graph breaks",
    lambda found: issubclass(found, Exception),
)
USER_ERROR = PrivateAPI(
    "torch._dynamo.exc:UserError",
    "graph-break: other errors of Dynamo may be reported as graph breaks",
    lambda found: issubclass(found, Exception),
)
SKIP_FRAME = PrivateAPI(
    "torch._dynamo.exc:SkipFrame",
    "graph-break: a break in a generator may be described as a failure to inline it",
    lambda found: issubclass(found, Exception),
)
EXTRACT_STACK = PrivateAPI(
    "torch._guards:TracingContext.extract_stack",
    "graph-break: the places of breaks on branches are read from text",
    callable,
)
CURRENT_COMPILE_ID = PrivateAPI(
    "torch._guards:CompileContext.current_compile_id",
    "graph-snapshot: not checked, and graphs are not matched with their frames",
    callable,
)


def is_break(error: BaseException | None) -> bool:
    """True if Dynamo raised the error because it could not trace the code."""
    unsupported = UNSUPPORTED.get()
    if unsupported is None:
        return _is_traced(error)
    return isinstance(error, unsupported)


def is_refusal(error: BaseException) -> bool:
    """True if this is an error that `fullgraph=True` raises for code that it cannot compile."""
    if needs_value(backend_error(error)):
        return True
    user_error = USER_ERROR.get()
    if user_error is None:
        return is_break(error) or _is_traced(error)
    return is_break(error) or isinstance(error, user_error)


def is_from_dynamo(error: BaseException | None) -> bool:
    """True for an exception of Dynamo's own."""
    return type(error).__module__ == "torch._dynamo.exc"


def _is_traced(error: BaseException | None) -> bool:
    """True for Dynamo's exceptions that carry the stack of the traced code."""
    return is_from_dynamo(error) and bool(getattr(error, "real_stack", None))


def backend_error(error: BaseException | None) -> BaseException | None:
    """Returns the backend's exception if Dynamo breaks a graph because its backend raised one.

    Dynamo first logs the break while it handles that exception. Then it raises a break of its own;
    with `fullgraph=True`, an error that holds the exception.
    """
    of_backend: BaseException | None = getattr(error, "inner_exception", None)
    if of_backend is not None:
        return of_backend
    if is_break(error):
        # Torch 2.9 has no `gb_type` here, but the text begins with it.
        broken = str(error).startswith("Backend compiler exception")
        return error.__cause__ if error is not None and broken else None
    frames = () if error is None else walk_tb(error.__traceback__)
    compiled = any(frame.f_code.co_name == "_call_user_compiler" for frame, _ in frames)
    return error if compiled else None


def needs_value(error: BaseException | None) -> bool:
    """True if the value of a tensor is needed while a graph is compiled."""
    return type(error).__name__ in ("DataDependentOutputException", "GuardOnDataDependentSymNode")


def is_skipped_frame(error: BaseException | None) -> bool:
    """True if Dynamo raised the error to skip a frame."""
    skip_frame = SKIP_FRAME.get()
    return skip_frame is not None and isinstance(error, skip_frame)


def traced_stack() -> Sequence[FrameSummary]:
    """Returns the stack of the code that Dynamo is tracing; empty if unknown."""
    extract_stack = EXTRACT_STACK.get()
    stack: Sequence[FrameSummary] = () if extract_stack is None else extract_stack()
    return stack


def current_compile_id() -> Any:
    """Returns the `CompileId` of the compilation in progress, or None."""
    current = CURRENT_COMPILE_ID.get()
    return None if current is None else current()


@functools.cache
def graph_break_ids() -> Mapping[str, str]:
    """Returns PyTorch's ids of graph breaks by type, from the file that ships with Dynamo."""
    file = os.path.join(os.path.dirname(torch._dynamo.__file__), "graph_break_registry.json")
    if not os.path.exists(file):
        return {}
    with open(file, encoding="utf-8") as opened:
        entries = json.load(opened)
    return {entry["Gb_type"]: name for name, versions in entries.items() for entry in versions}


# ------------------------------------------------------------------ the structured trace

STEP = PrivateAPI(
    "torch._dynamo.symbolic_convert:InstructionTranslatorBase.step",
    "graph-break: slower, because Dynamo's debug log is read too",
    lambda found: isinstance(found.__code__.co_names, tuple),
)
TRACE_STRUCTURED = PrivateAPI(
    "torch._logging._internal:trace_structured",
    "trace: slower, because PyTorch builds records that the audit does not read",
    lambda found: {"name", "metadata_fn"} <= {*found.__code__.co_varnames},
)


def trace_has_all_breaks() -> bool:
    """True if the trace records a break before Dynamo steps back to where it can resume.

    That requires the method that steps back to log the break, which it does not do in torch 2.9.
    """
    step = STEP.get()
    return step is not None and "log_graph_break" in step.__code__.co_names


def trace_structured_code() -> CodeType | None:
    """Returns the code of the function that builds the records of the trace."""
    function = TRACE_STRUCTURED.get()
    return None if function is None else function.__code__


def silent_trace() -> str:
    """Returns the note for an audit in which graphs were compiled but nothing was traced."""
    return (
        "graph-break, recompile, fallback: not checked: "
        f"the logger {TRACE_LOGGER} has no records in torch {torch.__version__}"
    )


# ------------------------------------------------------------------ counters, backends

COUNTERS = PrivateAPI(
    "torch._dynamo.utils:counters",
    "disagreement: checked without this counter",
    lambda found: (
        isinstance(found["stats"]["unique_graphs"], int)
        and isinstance(found["graph_break"].total(), int)
    ),
)
GRAPH_BREAK_REASONS = PrivateAPI(
    "torch._dynamo.utils:graph_break_reasons",
    "disagreement: checked without this counter",
    lambda found: (
        isinstance(found, list)
        and all(hasattr(item, "reason") and hasattr(item, "user_stack") for item in found)
    ),
)
LOOKUP_BACKEND = PrivateAPI(
    "torch._dynamo.backends.registry:lookup_backend",
    "graph-snapshot, not-pt2-compliant, opcheck: not checked, because no graph is captured",
    callable,
)
LIST_BACKENDS = PrivateAPI(
    "torch._dynamo:list_backends",
    "--backend: the name is not checked before the audit",
    lambda found: "inductor" in found(exclude_tags=()),
    only_for="--backend",
)


def backend_names() -> Sequence[str]:
    """Returns the names of all backends; empty if unknown."""
    list_backends = LIST_BACKENDS.get()
    return () if list_backends is None else tuple(list_backends(exclude_tags=()))


# ------------------------------------------------------------------ configuration

STANCE = PrivateAPI(
    "torch._dynamo.eval_frame:_stance",
    "recompile: a stance set by the caller may hide recompiles, and one set by the code persists",
    lambda found: isinstance(found.stance, str),
)
CONFIG_COPY = PrivateAPI(
    "torch._dynamo.config:get_config_copy",
    "configuration: changes that the code makes to Dynamo's configuration persist",
    callable,
)
ERROR_ON_RECOMPILE = PrivateAPI(
    "torch._dynamo.config:error_on_recompile",
    "recompile: may raise, if the caller has configured Dynamo to do so",
)
FAIL_ON_RECOMPILE_LIMIT = PrivateAPI(
    "torch._dynamo.config:fail_on_recompile_limit_hit",
    "recompile-limit: may raise, if the caller has configured Dynamo to do so",
)
FALLBACK_RANDOM = PrivateAPI(
    "torch._inductor.config:fallback_random",
    "mismatch: Inductor's random numbers differ from those of eager mode",
    only_for="inductor",
)
TRITON_CUDAGRAPHS = PrivateAPI(
    "torch._inductor.config:triton.cudagraphs",
    "cudagraph: not checked",
    only_for="cudagraph",
)
CUDAGRAPH_METRICS = PrivateAPI(
    "torch._inductor.cudagraph_utils:get_metrics_context",
    "cudagraph: not checked",
    lambda found: hasattr(found(), "in_progress") and hasattr(found(), "set"),
    only_for="cudagraph",
)


def cudagraph_metrics(wrap: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    """Returns a context that wraps the metrics that Inductor's CUDA graphs report to."""
    original = CUDAGRAPH_METRICS.get()
    if original is None:
        return nullcontext()
    target = CUDAGRAPH_METRICS.path.replace(":", ".")

    def wrapped() -> Any:
        return wrap(original())

    patch: AbstractContextManager[Any] = mock.patch(target, wrapped)
    return patch


def stance() -> str:
    """Returns the name of the compiler's stance; empty if unknown."""
    found = STANCE.get()
    return "" if found is None else found.stance


@contextmanager
def restored_dynamo() -> Iterator[None]:
    """Restores Dynamo's configuration and its stance after a block."""
    config: Any = torch._dynamo.config
    copy, stance_before = CONFIG_COPY.get(), STANCE.get()
    before = {} if copy is None else copy()
    try:
        yield
    finally:
        for name, value in ({} if copy is None else copy()).items():
            if value != before[name]:
                setattr(config, name, before[name])
        if stance_before is not None:
            torch._dynamo.eval_frame._stance = stance_before


def recompiles_do_not_raise() -> AbstractContextManager[Any]:
    """Returns a context in which Dynamo does not raise at a recompile, even if configured to."""
    options = {
        "error_on_recompile": ERROR_ON_RECOMPILE,
        "fail_on_recompile_limit_hit": FAIL_ON_RECOMPILE_LIMIT,
    }
    known = {name: False for name, api in options.items() if api.get() is not None}
    patch: AbstractContextManager[Any] = torch._dynamo.config.patch(known)
    return patch


def inductor_options(*, fallback_random: bool, cudagraphs: bool) -> AbstractContextManager[Any]:
    """Returns a context that sets those of the options that this release of Inductor has."""
    wanted = {
        "fallback_random": fallback_random and FALLBACK_RANDOM.get() is not None,
        "triton.cudagraphs": cudagraphs and TRITON_CUDAGRAPHS.get() is not None,
    }
    options = {name: True for name, is_set in wanted.items() if is_set}
    if not options:
        return nullcontext()
    import torch._inductor.config

    patch: AbstractContextManager[Any] = torch._inductor.config.patch(options)
    return patch


def trace_logger() -> logging.Logger:
    """Returns the logger of Dynamo's structured trace."""
    return logging.getLogger(TRACE_LOGGER)


def debug_logger() -> logging.Logger:
    """Returns Dynamo's debug logger."""
    return logging.getLogger(DEBUG_LOGGER)


APIS: Final = tuple(value for value in [*globals().values()] if isinstance(value, PrivateAPI))
"""All of the above."""
