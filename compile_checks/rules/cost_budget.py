"""Frames that cost more than `Limits` allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compile_checks._engine.costs import Frame, Limits
from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="cost-budget",
    summary="a function is compiled more often, has more guards or takes longer than allowed",
    cause="Each compilation takes time and adds guards, which every call checks. Large modules, "
    "dicts and lists of modules have many.",
    fix="Compile the repeated block instead of the whole model, remove recompiles, or raise the "
    "limit if the cost is acceptable.",
)


def check(frames: Iterable[Frame], limits: Limits) -> Iterator[Finding]:
    """Yields a finding for each cost of a frame that exceeds its limit."""
    for frame in frames:
        for name, what in (
            ("entries", "compiled {} times"),
            ("guards", "{} guards"),
            ("seconds", "{:.1f} s to compile"),
        ):
            cost, limit = getattr(frame, name), getattr(limits, name)
            if limit is not None and cost > limit:
                text = f"{frame.name}: {what.format(cost)}, at most {limit} allowed"
                yield RULE.finding(text, file=frame.file, line=frame.line)
