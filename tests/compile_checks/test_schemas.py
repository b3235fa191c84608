"""JSON reports match the project's schema, and SARIF reports match the standard's schema."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from pydantic import ValidationError
from pydantic_sarif import model as standard

from compile_checks import outputs
from compile_checks._engine.findings import (
    CATEGORIES,
    CapturedGraph,
    Finding,
    GraphBreak,
    Mode,
    Recompile,
)
from compile_checks._engine.results import Results, identity
from compile_checks.outputs import sarif
from compile_checks.outputs.json import SCHEMA_VERSION
from compile_checks.rules import KINDS, RULES
from tests.compile_checks.results import results
from tests.compile_checks.test_outputs import any_results

SCHEMA = json.loads(
    (Path(__file__).parent.parent.parent / "docs" / "audit.schema.json").read_text()
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.chdir(tmp_path)
    return results(tmp_path)


# ------------------------------------------------------------------ JSON


def as_json(run: Results) -> Any:
    return json.loads(outputs.FILE_FORMATS["json"](run))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_report_fits_the_schema(run: Results) -> None:
    VALIDATOR.validate(as_json(run))


@given(any_results)
def test_any_report_fits_the_schema(run: Results) -> None:
    VALIDATOR.validate(as_json(run))


@pytest.mark.parametrize("change", [{"schema_version": "2.0"}, {"more": 1}, {"ok": "yes"}])
def test_what_does_not_fit_is_refused(change: dict[str, Any], run: Results) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({**as_json(run), **change})


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("mode", Mode),
        ("graph_break", GraphBreak),
        ("recompile", Recompile),
        ("captured_graph", CapturedGraph),
        ("plain_finding", Finding),
    ],
)
def test_the_schema_says_all_that_there_is(name: str, type_: Any) -> None:
    fields = {field.name for field in dataclasses.fields(type_)}

    assert set(SCHEMA["$defs"][name]["properties"]) == fields
    assert set(SCHEMA["$defs"][name]["required"]) == fields


def test_the_schema_has_every_kind_and_category() -> None:
    properties = SCHEMA["$defs"]["finding"]["properties"]

    assert properties["kind"]["enum"] == sorted(KINDS)
    assert properties["category"]["enum"] == list(CATEGORIES)
    assert SCHEMA_VERSION.startswith("1.")


# ------------------------------------------------------------------ SARIF


def as_sarif(run: Results) -> Any:
    return json.loads(sarif.render(run))


def test_sarif_fits_the_schema_of_the_standard(run: Results) -> None:
    log = standard.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate_json(
        sarif.render(run)
    )

    assert log.runs[0].results is not None
    assert [result.ruleId for result in log.runs[0].results] == [
        *(finding.kind for _, finding in run.findings()),
        "fallback",
    ]


@given(any_results)
def test_any_sarif_fits_the_schema_of_the_standard(run: Results) -> None:
    standard.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate_json(
        sarif.render(run)
    )


def test_the_schema_of_the_standard_refuses_what_does_not_fit(run: Results) -> None:
    document = as_sarif(run)
    document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0

    with pytest.raises(ValidationError):
        standard.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(document)


def test_sarif_rules_are_all_kinds_and_results_refer_to_them(run: Results) -> None:
    (only,) = as_sarif(run)["runs"]
    rules = only["tool"]["driver"]["rules"]

    assert [rule["id"] for rule in rules] == sorted(KINDS)
    for result in only["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_places_are_relative_to_the_repository(run: Results) -> None:
    first, second, *_ = as_sarif(run)["runs"][0]["results"]

    (place,) = first["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "model%20%26%20co.py"
    assert place["physicalLocation"]["region"]["startLine"] == 5
    assert place["physicalLocation"]["region"]["snippet"]["text"].startswith("if x.sum() > 0:")
    # A finding without a place is shown at the audited function.
    (place,) = second["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "file:///src/m%3A1%2C2.py"


def test_what_the_baseline_knows_is_suppressed_in_sarif(run: Results) -> None:
    *failing, known = as_sarif(run)["runs"][0]["results"]

    assert not any("suppressions" in result for result in failing)
    assert known["suppressions"] == [
        {"kind": "external", "justification": "waits for torch 2.16 ]]> (until 2027-01-31)"}
    ]


def test_json_and_sarif_have_the_same_fingerprints(run: Results) -> None:
    in_json = [f["fingerprint"] for case in as_json(run)["cases"] for f in case["findings"]]
    in_sarif = [
        result["partialFingerprints"]["compileChecks/v2"]
        for result in as_sarif(run)["runs"][0]["results"]
        if "suppressions" not in result
    ]

    assert in_json == in_sarif
    assert in_json == [identity(case.name, f).fingerprint() for case, f in run.findings()]


@pytest.mark.parametrize(
    ("reason", "text"),
    [("{0} of {}", "{{0}} of {{}}"), ("see [x](y)", r"see \[x](y)"), ("x[0] (a)", "x[0] (a)")],
)
def test_a_message_has_no_placeholders_and_no_links(reason: str, text: str) -> None:
    from tests.compile_checks.test_outputs import one

    (result,) = as_sarif(one(Finding("export", reason)))["runs"][0]["results"]

    assert result["message"]["text"] == text


# ------------------------------------------------------------------ rules


def test_every_kind_has_a_cause_and_a_cure() -> None:
    assert list(RULES) == sorted(KINDS)
    for rule in RULES.values():
        assert rule.cause.endswith(".")
        assert rule.fix.endswith(".")


def test_the_page_on_json_names_the_version() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "audit-json.md"
    assert f'`schema_version` is `"{SCHEMA_VERSION}"`' in page.read_text()
