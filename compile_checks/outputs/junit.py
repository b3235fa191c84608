"""JUnit XML: a test suite with one test case for each audited case."""

from __future__ import annotations

from xml.etree import ElementTree

from compile_checks._engine.findings import Finding
from compile_checks._engine.results import CaseResult, Results, portable_path
from compile_checks.outputs.text import printable
from compile_checks.rules import crash, error, timeout

_RAISED = (crash.RULE.id, error.RULE.id, timeout.RULE.id)
"""Kinds that are errors in JUnit: the case itself did not finish."""


def render(results: Results) -> str:
    """Returns the results as JUnit XML."""
    errors = sum(_raised(case) for case in results.cases)
    totals = {
        "name": "compile_checks",
        "tests": str(len(results.cases)),
        "failures": str(results.failed - errors),
        "errors": str(errors),
        "time": f"{sum(case.seconds for case in results.cases):.3f}",
    }
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", totals)
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", {"name": "torch", "value": results.torch})
    for case in results.cases:
        _add_case(suite, case)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _add_case(suite: ElementTree.Element, case: CaseResult) -> None:
    attributes = {"classname": "compile_checks", "name": printable(case.name)}
    attributes["time"] = f"{case.seconds:.3f}"
    if case.file:
        attributes |= {"file": printable(portable_path(case.file)), "line": str(case.line)}
    element = ElementTree.SubElement(suite, "testcase", attributes)
    if not case.report.ok:
        # Readers of JUnit expect one failure per test, so one failure lists all findings.
        first, *others = case.report.findings
        more = f" (and {len(others)} more)" if others else ""
        failure = ElementTree.SubElement(
            element,
            "error" if _raised(case) else "failure",
            {"type": first.kind, "message": printable(f"{first}{more}")},
        )
        failure.text = printable(_full_text(case.report.findings))
    if case.known:
        output = ElementTree.SubElement(element, "system-out")
        output.text = printable(
            "\n".join(f"{k.until} ({k.reason}): {k.finding}" for k in case.known)
        )


def _raised(case: CaseResult) -> bool:
    return any(finding.kind in _RAISED for finding in case.report.findings)


def _full_text(findings: tuple[Finding, ...]) -> str:
    return "\n\n".join(finding.full_text() for finding in findings)
