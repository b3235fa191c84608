"""The JSON report. `docs/audit.schema.json` is its schema, `docs/audit-json.md` explains it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from compile_checks._engine.findings import AuditReport, Finding
from compile_checks._engine.results import CaseResult, Known, Results, identity
from compile_checks.outputs.text import dumped, total

SCHEMA_VERSION = "1.3"
"""The major number changes if readers may break, the minor number if fields are added."""
_MAJOR = SCHEMA_VERSION.partition(".")[0]


def render(results: Results) -> str:
    """Returns the results as JSON. `read` is the inverse."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": "compile_checks",
        "torch": results.torch,
        "python": platform.python_version(),
        "ok": results.ok,
        "summary": total(results),
        "cases": [_case(case) for case in results.cases],
    }
    return dumped(document)


def _case(case: CaseResult) -> dict[str, Any]:
    report = case.report.as_dict()
    for finding, item in zip(case.report.findings, report["findings"], strict=True):
        item["fingerprint"] = identity(case.name, finding).fingerprint()
    known = [
        {**asdict(k), "fingerprint": identity(case.name, k.finding).fingerprint()}
        for k in case.known
    ]
    seconds = round(case.seconds, 3)
    place = {"file": case.file, "line": case.line}
    return {"name": case.name, "seconds": seconds, **place, **report, "known": known}


def read(text: str) -> Results:
    """Parses a report.

    Raises:
        ValueError: for another kind of document or an incompatible version.
    """
    document = json.loads(text)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, str) or version.partition(".")[0] != _MAJOR:
        raise ValueError(f"expected a report with schema_version {_MAJOR}.x, got {version!r}")
    return Results(tuple(map(_case_of, document["cases"])), document["torch"])


def _case_of(item: Mapping[str, Any]) -> CaseResult:
    plain = [_without_fingerprint(finding) for finding in item["findings"]]
    known = [_without_fingerprint(accepted) for accepted in item["known"]]
    return CaseResult(
        item["name"],
        AuditReport.from_dict({**item, "findings": plain}),
        known=tuple(Known(**{**k, "finding": Finding(**k["finding"])}) for k in known),
        seconds=item["seconds"],
        file=item["file"],
        line=item["line"],
    )


def _without_fingerprint(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "fingerprint"}
