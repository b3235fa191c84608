"""Compares two JSON reports: `python -m compile_checks diff OLD NEW`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from compile_checks._engine.findings import Finding
from compile_checks._engine.results import CaseResult, Identity, Results, identity, portable_path
from compile_checks.outputs import json
from compile_checks.outputs.text import plural, printable

_SAME, _NEW = 0, 1


class Change(NamedTuple):
    """What became of a finding, or of the counts of a case."""

    what: str
    """`"new"`, `"gone"`, `"moved"` or `"counts"`."""
    text: str


def main(argv: Sequence[str]) -> int:
    """Prints what changed. Returns 1 if there is a new finding, or one happens more often."""
    parser = ArgumentParser(
        prog="python -m compile_checks diff",
        description="Compares two JSON reports, such as those of two branches or of two releases "
        "of PyTorch.",
        epilog="Exit status: 0 without new findings, 1 with new ones, 2 for usage errors.",
        allow_abbrev=False,
    )
    parser.add_argument("old", type=Path, help="a report written with --json")
    parser.add_argument("new", type=Path, help="a later one")
    arguments = parser.parse_args(argv)
    try:
        old, new = (_read(file) for file in (arguments.old, arguments.new))
    except ValueError as error:
        parser.error(str(error))
    found = list(changes(old, new))
    print(rendered(old, new, found), end="")
    return _NEW if any(change.what == "new" for change in found) else _SAME


def changes(old: Results, new: Results) -> Iterator[Change]:
    """Yields what is new, gone and moved, then the cases whose counts differ.

    A finding is the same if its identity is: see `Identity`. One that a baseline accepts counts
    like any other.
    """
    before, after = _findings(old), _findings(new)
    for same in dict.fromkeys([*before, *after]):
        yield from _compared(before.get(same, []), after.get(same, []))
    yield from _counts(old, new)


def rendered(old: Results, new: Results, found: Sequence[Change]) -> str:
    """Returns the changes as text, the new findings first."""
    order = ["new", "gone", "moved", "counts"]
    lines = [
        f"{change.what:6} {printable(change.text)}"
        for change in sorted(found, key=lambda change: order.index(change.what))
    ]
    counted = ", ".join(f"{sum(c.what == what for c in found)} {what}" for what in order[:3])
    if old.torch != new.torch:
        lines.append(f"torch {old.torch} -> {new.torch}")
    return "\n".join([*lines, f"findings: {counted}"]) + "\n"


def _read(file: Path) -> Results:
    try:
        return json.read(file.read_text(encoding="utf-8"))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


def _findings(results: Results) -> Mapping[Identity, list[Finding]]:
    found = defaultdict(list)
    for case in results.cases:
        for finding in (*case.report.findings, *(known.finding for known in case.known)):
            found[identity(case.name, finding)].append(finding)
    # Cases and modes may share a place.
    return {same: list(dict.fromkeys(findings)) for same, findings in found.items()}


def _compared(before: Sequence[Finding], after: Sequence[Finding]) -> Iterator[Change]:
    for old, new in zip_longest(before, after):
        if old is None:
            yield Change("new", str(new))
        elif new is None:
            yield Change("gone", str(old))
        elif new.count > old.count:
            yield Change("new", f"{new}, before {plural(old.count, 'time')}")
        elif new.count < old.count:
            yield Change("gone", f"{old}, now {plural(new.count, 'time')}")
        elif _place(old) != _place(new):
            yield Change("moved", f"{_place(old)} -> {new}")


def _place(finding: Finding) -> str:
    return f"{portable_path(finding.file)}:{finding.line}" if finding.file else ""


def _counts(old: Results, new: Results) -> Iterator[Change]:
    before, after = ({case.name: case for case in results.cases} for results in (old, new))
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after:
            yield Change("counts", f"{name}: {'new case' if name in after else 'no longer a case'}")
        elif texts := [*_differences(before[name], after[name])]:
            yield Change("counts", f"{name}: {', '.join(texts)}")


def _differences(old: CaseResult, new: CaseResult) -> Iterator[str]:
    for what in ("graphs", "graph_breaks", "recompiles"):
        before, after = (getattr(case.report, what) for case in (old, new))
        if what != "graphs":
            before, after = len(before), len(after)
        if before != after:
            yield f"{what.replace('_', ' ')} {before} -> {after}"
