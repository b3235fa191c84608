"""Exceptions that end an audit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compile_checks._engine.findings import Finding, headline
from compile_checks._engine.places import place_of_error
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="error",
    summary="the audited code raised an exception",
    cause="The code raised an exception while it was audited.",
    fix="Call the code without `torch.compile` first: the inputs may be wrong. If that works, the "
    "compiler caused the error, and the error message says where.",
)


IN_EAGER = "Eager mode raises it too."

_INSIDE = re.compile(r"\bgot (\w+\(.*\))$", re.MULTILINE)
"""How Dynamo quotes an exception of an operation, which it does not chain."""


def finding(error: BaseException, in_eager: BaseException | None = None) -> Finding:
    """Returns a finding at the line that raised an exception.

    Its headline has the exception and its first cause. All exceptions between the two, with their
    places, and the rest of the text follow.

    Args:
        in_eager: what the same call raises in eager mode. It replaces the exception, because
            Dynamo's version of it has less to say.
    """
    chain = [*_chain(error if in_eager is None else in_eager)]
    first, last = (headline(_text(chain[index])) for index in (0, -1))
    quoted = _INSIDE.search(str(chain[-1]))
    last = quoted[1] if quoted else last
    lines = [first if last == first else f"{first}, caused by {last}"]
    lines += _text(chain[0]).splitlines()[1:]
    lines += [f"  {IN_EAGER}"] if in_eager is not None else []
    for cause in chain[1:]:
        place = place_of_error(cause)
        at = f" (at {place.file}:{place.line})" if place.file else ""
        lines += [f"  caused by {_text(cause)}{at}"]
    return place_of_error(chain[0]).of(RULE.finding("\n".join(lines)))


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and its causes. Leaves out Dynamo's around that of a backend."""
    inner: BaseException | None = getattr(error, "inner_exception", None)
    if inner is None:
        yield error
        inner = error.__cause__
        if inner is None and not error.__suppress_context__:
            inner = error.__context__
    if inner is not None:
        yield from _chain(inner)
