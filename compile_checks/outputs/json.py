"""The JSON document. `docs/audit.schema.json` is its schema, `docs/audit-json.md` explains it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from typing import Any

from compile_checks.outputs.text import total
from compile_checks.results import CaseResult, Results, identity

SCHEMA_VERSION = "1.0"
"""The first number rises when a reader may break, the second when something is added."""


def render(results: Results) -> str:
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": "compile_checks",
        "torch": results.torch,
        "python": platform.python_version(),
        "ok": results.ok,
        "summary": total(results),
        "cases": [_case(case) for case in results.cases],
    }
    return json.dumps(document, indent=2) + "\n"


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
