"""Names that a case must cover, but none does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="missing-case",
    summary="no case covers something that must be covered",
    cause="The callable given as `required` returned a name that no case's `covers` lists.",
    fix="Add a case whose `covers` is that name.",
)


def check(
    required: Iterable[str], covered: Iterable[str], source: str
) -> Iterator[tuple[str, Finding]]:
    """Yields each required name that no case covers, in sorted order, with its finding.

    Args:
        source: the callable that returned `required`, as the user wrote it.
    """
    for name in sorted({*required} - {*covered}):
        yield name, RULE.finding(f"no case covers {name}, which {source} requires")
