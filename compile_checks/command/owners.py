"""Leaves out the findings in other people's code: `--owner`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from compile_checks._engine.results import CaseResult, Results


def only(results: Results, owners: Collection[str]) -> Results:
    """Keeps the findings in the code of some owners, and those without a place.

    A note on each case counts the others.
    """
    if not owners:
        return results
    return replace(results, cases=tuple(_only(case, owners) for case in results.cases))


def _only(case: CaseResult, owners: Collection[str]) -> CaseResult:
    findings = case.report.findings
    others = Counter(f.owner for f in findings if f.owner and f.owner not in owners)
    if not others:
        return case
    left_out = ", ".join(f"{count} in {owner}" for owner, count in sorted(others.items()))
    report = replace(
        case.report,
        findings=tuple(f for f in findings if f.owner not in others),
        notes=(*case.report.notes, f"findings left out by --owner: {left_out}"),
    )
    return replace(case, report=report)
