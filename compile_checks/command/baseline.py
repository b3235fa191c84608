"""The baseline: a reviewed file of findings that are accepted for now.

Findings in the file pass and all others fail. An entry also fails if it has expired or if its
finding is gone, so the file never grows or goes stale unnoticed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from compile_checks._engine.findings import AuditReport, Finding
from compile_checks._engine.results import BASELINE, CaseResult, Identity, Known, Results, identity
from compile_checks.rules import baseline_expired, baseline_vanished

FILE_VERSION = 2

Places = Mapping[Identity, list[tuple[str, int]]]
"""The distinct places (file, line) of each finding."""


class BaselineError(ValueError):
    """Raised for an invalid baseline file."""


@dataclass(frozen=True)
class Entry:
    """One accepted finding."""

    kind: str
    file: str
    source: str
    headline: str
    case: str
    places: int
    """The number of places in the file where this line is accepted."""
    cases: tuple[str, ...]
    """The cases that found it. Only a run of all of them can show that it has vanished."""
    torch: str
    """The torch release it was accepted with. Only that release can show that it has vanished."""
    reason: str
    expires: date
    """The last day on which it is accepted."""

    @property
    def identity(self) -> Identity:
        """The identity of the accepted finding."""
        return Identity(self.kind, self.file, self.source, self.headline, self.case)

    def describes(self, results: Results, folder: Path) -> bool:
        """True if this run would have found the finding if it still occurred.

        Args:
            folder: that of the baseline.
        """
        left = {case for case in self.cases if not _is_gone(case, folder)}
        ran = {case.name for case in results.cases}
        return not left or (ran >= left and self.torch == _release(results.torch))

    def __str__(self) -> str:
        place = f"{self.file}: " if self.file else f"{self.case}: "
        return f"{place}{self.kind}: {self.headline}"


@dataclass(frozen=True)
class Baseline:
    """All entries of a file."""

    entries: tuple[Entry, ...] = ()
    folder: Path = Path()
    """The folder of the file."""

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Reads a file.

        Raises:
            BaselineError: if it cannot be read, or is not a baseline of this version.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BaselineError(f"{path}: {error}") from None
        if not isinstance(document, dict) or document.get("version") != FILE_VERSION:
            raise BaselineError(
                f'{path}: expected an object with "version": {FILE_VERSION}; delete the file and '
                "write it again with --update-baseline"
            )
        entries = document.get("findings")
        if not isinstance(entries, list):
            raise BaselineError(f'{path}: expected a list under "findings"')
        try:
            return cls(tuple(map(_entry, entries)), path.parent)
        except BaselineError as error:
            raise BaselineError(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Writes a file with sorted entries, which keeps diffs small."""
        ordered = sorted(self.entries, key=lambda entry: (entry.file, entry.identity))
        listed = [{**asdict(entry), "expires": entry.expires.isoformat()} for entry in ordered]
        text = json.dumps({"version": FILE_VERSION, "findings": listed}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")

    def judge(self, results: Results, *, today: date) -> Results:
        """Returns the results without accepted findings, plus a case for stale entries.

        An entry is stale if it has expired or if its finding has vanished.
        """
        entries = {entry.identity: entry for entry in self.entries}
        places = _places(results)
        cases = []
        for case in results.cases:
            new, known = [], []
            for finding in case.report.findings:
                key = identity(case.name, finding)
                entry = entries.get(key)
                at = places[key].index((finding.file, finding.line))
                if entry is None or entry.expires < today or at >= entry.places:
                    new.append(finding)
                else:
                    known.append(Known(finding, entry.reason, entry.expires.isoformat()))
            report = replace(case.report, findings=tuple(new))
            cases.append(replace(case, report=report, known=(*case.known, *known)))
        stale = tuple(f for e in self.entries for f in self._stale(e, places, results, today))
        about = [CaseResult(BASELINE, AuditReport(findings=stale))] if stale else []
        return replace(results, cases=(*cases, *about))

    def updated(self, results: Results, *, reason: str, expires: date, today: date) -> Baseline:
        """Returns a baseline that accepts all findings of a run.

        Args:
            results: the results before `judge`.
            reason, expires: the values for entries that are new or have expired.
        """
        alive = [entry for entry in self.entries if entry.expires >= today]
        entries = {
            entry.identity: entry for entry in alive if not entry.describes(results, self.folder)
        }
        before = {entry.identity: entry for entry in alive}
        found_by = defaultdict(set)
        for case, finding in results.findings():
            found_by[identity(case.name, finding)].add(case.name)
        for key, places in _places(results).items():
            old = before.get(key)
            cases, count = found_by[key], len(places)
            if old is not None and not old.describes(results, self.folder):
                cases, count = cases | set(old.cases), max(count, old.places)
            entries[key] = Entry(
                *key,
                places=count,
                cases=tuple(sorted(cases)),
                torch=_release(results.torch) if old is None else old.torch,
                reason=reason if old is None else old.reason,
                expires=expires if old is None else old.expires,
            )
        return Baseline(tuple(entries.values()), self.folder)

    def _stale(self, entry: Entry, places: Places, results: Results, today: date) -> list[Finding]:
        """Returns the finding about an entry that no longer applies."""
        expired = [*baseline_expired.check(str(entry), entry.expires, today)]
        if expired or not entry.describes(results, self.folder):
            return expired
        found = len(places.get(entry.identity, ()))
        return [*baseline_vanished.check(str(entry), entry.places, found)]


def _places(results: Results) -> Places:
    """Returns the places of each finding from top to bottom, whatever it costs."""
    places: defaultdict[Identity, set[tuple[str, int]]] = defaultdict(set)
    for case, finding in results.findings():
        places[identity(case.name, finding)].add((finding.file, finding.line))
    return {same: sorted(found) for same, found in places.items()}


def _is_gone(case: str, folder: Path) -> bool:
    """True if the name of a case has a file, and that file is in none of the folders that the name
    may be relative to: the working directory, that of the baseline, and those above.
    """
    file, colons, _ = case.partition("::")
    if not (colons and file.endswith(".py")):
        return False
    around = [Path.cwd(), folder.resolve()]
    roots = [root for start in around for root in (start, *start.parents)]
    return not any((root / file).exists() for root in roots)


def _entry(item: Any) -> Entry:
    names = [field.name for field in fields(Entry)]
    if not isinstance(item, dict) or sorted(item) != sorted(names):
        raise BaselineError(f"expected an entry with {', '.join(names)}, got {item!r}")
    for name in ("kind", "file", "source", "headline", "case", "torch", "reason", "expires"):
        _check(item, name, "a string", isinstance(item[name], str))
    _check(item, "reason", "a non-empty string", item["reason"] != "")
    _check(item, "places", "a positive integer", type(item["places"]) is int and item["places"] > 0)
    cases = item["cases"]
    are_names = isinstance(cases, list) and all(isinstance(case, str) for case in cases)
    _check(item, "cases", "a list of strings", are_names)
    try:
        expires = date.fromisoformat(item["expires"])
    except ValueError:
        raise BaselineError(
            f"'expires': expected a date as YYYY-MM-DD, got {item['expires']!r}"
        ) from None
    return Entry(**{**item, "cases": tuple(cases), "expires": expires})


def _check(item: Mapping[str, Any], name: str, expected: str, is_valid: bool) -> None:
    if not is_valid:
        raise BaselineError(f"{name!r}: expected {expected}, got {item[name]!r}")


def _release(torch: str) -> str:
    """Returns a version without its build tag.

    >>> _release("2.13.0+cpu")
    '2.13.0'
    """
    return torch.partition("+")[0]
