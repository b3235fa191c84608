"""Eager and compiled code that give different results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import place_of_code
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="mismatch",
    summary="eager and compiled code give different results",
    cause="Eager and compiled results differ by more than the tolerance.",
    fix="If the code is not random, the compiler or the fake kernel of a custom op is wrong. "
    "Bisect: `backend='eager'`, then `'aot_eager'`, then `'inductor'`.",
)
_HINT = "find the cause: try backend='eager', 'aot_eager' and 'inductor' in turn"


def check(fn: Callable[..., Any], call: str, differences: Sequence[str]) -> Iterator[Finding]:
    """Yields a finding that lists all differences between eager and compiled code after a call."""
    if differences:
        first, *others = differences
        more = f", and {len(others)} more" if others else ""
        listed = "".join(f"\n  {text}" for text in others)
        yield place_of_code(fn).of(RULE.finding(f"{call}: {first}{more}{listed}", _HINT))
