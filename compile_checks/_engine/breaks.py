"""Describes a graph break from Dynamo's exception or from a record of its trace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from traceback import FrameSummary

from compile_checks import _compat
from compile_checks._engine.findings import GraphBreak, headline
from compile_checks._engine.places import called_from, place_of
from compile_checks.rules.graph_break import REJECTED

_HINT = re.compile(r"^  Hint: (.*(?:\n    .*)*)", re.MULTILINE)
_SKIPPED = re.compile(r"frame skipped: (\S+) \(.+ line (\d+)\)")
_EARLIER = "This graph break may have been caused by an earlier graph break."
_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
# What Dynamo was tracing when it called the backend.
_TRACED = re.compile(r"^    Traceback:\n(?:      .*\n?)+", re.MULTILINE)
# The headings of the stacks in a record, and of those that Dynamo appends to an exception.
_STACK = re.compile(r"User code traceback:|^from user code:$", re.MULTILINE)


def break_of(error: BaseException | None, payload: str, compile_id: str = "") -> GraphBreak:
    """Returns the break that an exception describes, or else a record of the trace."""
    backend_error = _compat.backend_error(error)
    if backend_error is not None:
        return _rejection(backend_error, stack_of(error, payload), compile_id)
    from_error = getattr(error, "real_stack", None) is not None
    reason = reason_in(str(_cause_of(error)) if from_error else payload)
    stack = stack_of(error, payload)
    place = place_of(stack)
    return GraphBreak(
        reason=reason,
        file=place.file,
        line=place.line,
        source=place.source,
        gb_id=gb_id(getattr(_cause_of(error), "gb_type", "") or headline(reason)),
        hint=hint_in(reason),
        owner=place.owner,
        compile_id=compile_id,
        called_from=called_from(stack, place),
    )


def stack_of(error: BaseException | None, payload: str) -> Sequence[FrameSummary]:
    """Returns the frames that Dynamo traced up to a break, innermost last."""
    backend_error = _compat.backend_error(error)
    if backend_error is not None:
        if operation := _stack_in(str(backend_error), "Original traceback:"):
            return operation  # errors in a backward pass do not name theirs
        traced = _TRACED.search(payload or str(error))
        return _stack_in(traced[0], "Traceback:") if traced else _compat.traced_stack()
    stack: Sequence[FrameSummary] | None = getattr(error, "real_stack", None)
    # Dynamo logs a break on a branch while it is still tracing, with no exception in flight.
    return _compat.traced_stack() or _stack_in(payload) if stack is None else stack


def _cause_of(error: BaseException | None) -> BaseException | None:
    """Returns the original break.

    If a generator breaks, torch 2.9 wraps the break in an error about inlining the generator's
    consumer. The text of that error has the address of a code object, which differs in each run.
    """
    skip = error.__cause__ if error else None
    if skip is not None and _compat.is_skipped_frame(skip) and _compat.is_break(skip.__cause__):
        return _cause_of(skip.__cause__)
    return error


def _rejection(error: BaseException, stack: Sequence[FrameSummary], compile_id: str) -> GraphBreak:
    """Returns the break at the operation that a backend could not compile, if it is known."""
    name = type(error).__name__
    cause, _, details = str(error).partition("\n")
    operation = re.search(r"^While executing .*", details, re.MULTILINE)
    explanation = "Dynamo captured this code, but the backend raised an error. It runs in Python."
    lines = [f"{REJECTED}: {name}: {cause}", f"  Explanation: {explanation}"]
    if operation:
        lines.append(f"  {operation[0]}")
    hint = "Another backend may compile it. Report it to the maintainers of this one."
    if _compat.needs_value(error):
        hint = (
            "This operation needs the value of a tensor, which is unknown while the graph is "
            "compiled. Compute with the tensor instead: index with a tensor of one dimension or "
            "`torch.index_select`, not with a single number. Or pass the number as an int."
        )
    place = place_of(stack)
    return GraphBreak(
        reason="\n".join(lines),
        file=place.file,
        line=place.line,
        source=place.source,
        gb_id=gb_id("Backend compiler exception"),
        hint=hint,
        owner=place.owner,
        compile_id=compile_id,
        called_from=called_from(stack, place),
    )


def _stack_in(text: str, heading: str = "User code traceback:") -> Sequence[FrameSummary]:
    """Returns the stack below a heading in the text of a record or an error."""
    text = text.partition(heading)[2]
    return [FrameSummary(file, int(line), name) for file, line, name in _FRAME.findall(text)]


def hint_in(reason: str) -> str:
    """Returns Dynamo's advice, one hint per line, and what a break in a loop costs.

    >>> hint_in("Data-dependent branching\\n  Explanation: It is.\\n  Hint: Use `torch.cond`.\\n")
    'Use `torch.cond`.'
    """
    hints = [" ".join(hint.split()) for hint in _HINT.findall(reason)]
    if skipped := _SKIPPED.search(reason):
        hints = [hint for hint in hints if not hint.startswith(_EARLIER)]
        hints.append(loop_hint(skipped[1], skipped[2]))
    return "\n".join(hints)


def loop_hint(name: str, line: int | str) -> str:
    """Returns what a break in a loop of a function costs."""
    return (
        f"The break is in a loop, so all of `{name}` (line {line}) runs in eager mode. "
        "Its other breaks show only when this one is gone."
    )


def reason_in(payload: str) -> str:
    """Returns the reason in the text of a record or an exception, without the stacks around it."""
    text = payload.partition("Graph Break Reason: ")[2] or payload
    return _STACK.split(text, maxsplit=1)[0].strip()


def gb_id(gb_type: str) -> str:
    """Returns the id in PyTorch's registry of graph breaks, or `""` if it has none.

    >>> gb_id("Call to `torch._dynamo.graph_break()`"), gb_id("no such break")
    ('GB0025', '')
    """
    return _compat.graph_break_ids().get(gb_type, "")
