"""GitHub annotations: workflow commands on standard output that GitHub shows in the diff.

They use the same escapes as GitHub's own toolkit (`actions/toolkit`,
`packages/core/src/command.ts`).
"""

from __future__ import annotations

from compile_checks._engine.findings import Finding, headline
from compile_checks._engine.results import CaseResult, Results
from compile_checks.outputs.text import details, printable


def render(results: Results) -> str:
    """Returns one line for each finding. GitHub shows only the first ten of a step."""
    return "".join(_annotation(case, finding) for case, finding in results.findings())


def _annotation(case: CaseResult, finding: Finding) -> str:
    file, line = case.place(finding)
    properties = {"file": file, "line": str(line)} if file else {}
    properties["title"] = f"{finding.kind} in {case.name}"
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    hints = [f"{name}: {text}" for name, text in details(finding) if name in ("argument", "hint")]
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    return f"::error {listed}::{_data(chr(10).join([headline(finding.reason) + times, *hints]))}\n"


def _data(text: str) -> str:
    return printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
