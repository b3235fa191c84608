"""A graph break as Dynamo tells of it, by an exception or in the text of its trace's record."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from traceback import FrameSummary

import torch._dynamo
from torch._dynamo.exc import SkipFrame, Unsupported
from torch._guards import TracingContext

from compile_checks._engine.findings import GraphBreak
from compile_checks._engine.places import place_of

_HINT = re.compile(r"^  Hint: (.*(?:\n    .*)*)", re.MULTILINE)
# The heads of the stacks in a record, and of those that Dynamo adds to an exception at last.
_STACK = re.compile(r"User code traceback:|^from user code:$", re.MULTILINE)


def break_of(error: BaseException | None, payload: str, compile_id: str = "") -> GraphBreak:
    """The break that an exception, or without one a record of the trace, speaks of."""
    stack: Sequence[FrameSummary] | None = getattr(error, "real_stack", None)
    # A break on a branch is logged with no exception in flight, while its code is being traced.
    reason = reason_in(payload if stack is None else str(_cause_of(error)))
    place = place_of(TracingContext.extract_stack() if stack is None else stack)
    return GraphBreak(
        reason=reason,
        file=place.file,
        line=place.line,
        source=place.source,
        gb_id=gb_id(getattr(_cause_of(error), "gb_type", "") or headline(reason)),
        hint=hint_in(reason),
        owner=place.owner,
        compile_id=compile_id,
    )


def _cause_of(error: BaseException | None) -> BaseException | None:
    """What broke. Torch 2.9 wraps a break in a generator in the refusal to inline who reads it.

    That names a code object by its address, which is another one in each process.
    """
    skip = error.__cause__ if error else None
    if isinstance(skip, SkipFrame) and isinstance(skip.__cause__, Unsupported):
        return _cause_of(skip.__cause__)
    return error


def headline(reason: str) -> str:
    return reason.partition("\n")[0].strip()


def hint_in(reason: str) -> str:
    """What Dynamo advises, a line each.

    >>> hint_in("Data-dependent branching\\n  Explanation: It is.\\n  Hint: Use `torch.cond`.\\n")
    'Use `torch.cond`.'
    """
    return "\n".join(" ".join(hint.split()) for hint in _HINT.findall(reason))


def reason_in(payload: str) -> str:
    """The reason within the text of a record or an exception, without the stacks around it."""
    text = payload.partition("Graph Break Reason: ")[2] or payload
    return _STACK.split(text, maxsplit=1)[0].strip()


def gb_id(gb_type: str) -> str:
    """The id in PyTorch's registry of graph breaks, `""` where it has none.

    >>> gb_id("Call to `torch._dynamo.graph_break()`"), gb_id("no such break")
    ('GB0025', '')
    """
    return _registry().get(gb_type, "")


@functools.cache
def _registry() -> Mapping[str, str]:
    """The ids by type, from the file that torch ships beside Dynamo; none where it ships none."""
    file = os.path.join(os.path.dirname(torch._dynamo.__file__), "graph_break_registry.json")
    if not os.path.exists(file):
        return {}
    with open(file, encoding="utf-8") as opened:
        entries = json.load(opened)
    return {entry["Gb_type"]: name for name, versions in entries.items() for entry in versions}
