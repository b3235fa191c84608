"""SARIF 2.1.0 (OASIS), with the fields that GitHub's code scanning requires."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from compile_checks._engine.findings import Finding, headline
from compile_checks._engine.results import CaseResult, Known, Results, identity
from compile_checks.outputs.text import details, dumped, graph_break_page
from compile_checks.rules import RULES
from compile_checks.rules._rule import Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_RULE_IDS = [*RULES]


def render(results: Results) -> str:
    """Returns the results as SARIF. Known findings are included as suppressed results."""
    found = [_result(case, finding) for case, finding in results.findings()]
    known = [_suppressed(case, known) for case in results.cases for known in case.known]
    run = {
        "tool": {"driver": {"name": "compile_checks", "rules": list(map(_rule, RULES.values()))}},
        "columnKind": "unicodeCodePoints",
        "results": [*found, *known],
        "properties": {"torch": results.torch},
    }
    return dumped({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": _message(rule.summary),
        "fullDescription": _message(rule.cause),
        "help": _message(f"{rule.cause}\n\n{rule.fix}"),
        "defaultConfiguration": {"level": "error"},
    }


def _result(case: CaseResult, finding: Finding) -> dict[str, Any]:
    named = [f"{name}: {text}" for name, text in details(finding)]
    return {
        "ruleId": finding.kind,
        "ruleIndex": _RULE_IDS.index(finding.kind),
        "level": "error",
        "message": _message("\n".join([headline(finding.reason) or finding.kind, *named])),
        "locations": [_location(case, finding)],
        "partialFingerprints": {
            "compileChecks/v2": identity(case.name, finding).fingerprint(),
        },
        "occurrenceCount": finding.count,
        "properties": _properties(case, finding),
    }


def _suppressed(case: CaseResult, known: Known) -> dict[str, Any]:
    until = f" (until {known.expires})" if known.expires else ""
    kind = "external" if known.expires else "inSource"
    suppression = {"kind": kind, "justification": known.reason + until}
    return {**_result(case, known.finding), "suppressions": [suppression]}


def _message(text: str) -> dict[str, str]:
    """Escapes placeholders (section 3.11.5 of the standard) and links (3.11.6)."""
    doubled = text.replace("{", "{{").replace("}", "}}")
    return {"text": re.sub(r"\[(?=[^\]]*\]\()", r"\\[", doubled)}


def _location(case: CaseResult, finding: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"name": case.name, "kind": "function"}]}
    file, line = case.place(finding)
    if file:
        region: dict[str, Any] = {"startLine": max(line, 1)}
        if finding.source:
            region["snippet"] = {"text": finding.source}
        location["physicalLocation"] = {"artifactLocation": _artifact(file), "region": region}
    return location


def _artifact(file: str) -> dict[str, str]:
    """Returns a location relative to the root of the repository if the file is inside it."""
    return {"uri": Path(file).as_uri() if Path(file).is_absolute() else quote(file)}


def _properties(case: CaseResult, finding: Finding) -> dict[str, Any]:
    named = {
        "case": case.name,
        "owner": finding.owner,
        "argument": finding.argument,
        "guard": finding.guard,
        "changed": finding.category,
        "graphBreakId": finding.gb_id,
        "graphBreakPage": graph_break_page(finding),
    }
    return {name: value for name, value in named.items() if value}
