"""Names that must be covered by a case and are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="missing-case",
    summary="no case covers something that must be covered",
    cause="The callable given as `required` returns a name that no case has as its `covers`.",
    cure="Add a case whose `covers` is that name.",
)


def check(
    required: Iterable[str], covered: Iterable[str], source: str
) -> Iterator[tuple[str, Finding]]:
    """Yields each required name that is not covered, sorted, with its finding.

    Args:
        source: the callable that returned `required`, as it was given.
    """
    for name in sorted({*required} - {*covered}):
        yield name, RULE.finding(f"no case covers {name}, which {source} requires")
