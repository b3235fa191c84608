"""Baselines: known findings pass; new findings, expired entries and vanished findings fail."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compile_checks._engine.findings import AuditReport, Finding
from compile_checks._engine.results import CaseResult, Results, identity
from compile_checks.command.baseline import Baseline, BaselineError

TODAY = date(2026, 11, 23)
LATER = date(2027, 2, 21)


def item(line: int = 7, **changes: Any) -> Finding:
    found = Finding("graph-break", "Tensor.item()", file="model.py", line=line, source="x.item()")
    return replace(found, **changes)


def results(torch: str = "2.13.0", **cases: tuple[Finding, ...]) -> Results:
    made = (CaseResult(name, AuditReport(1, findings=found)) for name, found in cases.items())
    return Results(tuple(made), torch)


def accepted(run: Results, before: Baseline | None = None, **options: Any) -> Baseline:
    given = {"reason": "for now", "expires": LATER, "today": TODAY, **options}
    return (before or Baseline()).updated(run, **given)


def kinds(run: Results) -> list[str]:
    return [finding.kind for _, finding in run.findings()]


# ------------------------------------------------------------------ what passes and what fails


def test_what_is_known_passes_and_says_why() -> None:
    run = results(step=(item(),))

    judged = accepted(run).judge(run, today=TODAY)

    assert judged.ok
    (known,) = judged.cases[0].known
    assert (known.finding, known.reason, known.expires) == (item(), "for now", "2027-02-21")


def test_what_is_new_fails() -> None:
    run = results(step=(item(), item(kind="fallback")))

    judged = accepted(results(step=(item(),))).judge(run, today=TODAY)

    assert kinds(judged) == ["fallback"]
    assert len(judged.cases[0].known) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "fallback"},
        {"file": "other.py"},
        {"source": "y.item()"},
        {"reason": "Tensor.tolist()"},
    ],
)
def test_another_kind_file_source_or_headline_is_another_finding(change: dict[str, Any]) -> None:
    judged = accepted(results(step=(item(),))).judge(results(step=(item(**change),)), today=TODAY)

    assert next(finding for _, finding in judged.findings()) == item(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"line": 99},
        {"count": 3},
        {"source": "  x.item() "},
        {"reason": "Tensor.item()\nexplained otherwise"},
        {"hint": "do not"},
    ],
)
def test_moved_lines_and_other_words_below_the_headline_are_the_same_finding(
    change: dict[str, Any],
) -> None:
    judged = accepted(results(step=(item(),))).judge(results(step=(item(**change),)), today=TODAY)

    assert judged.ok


def test_the_same_line_at_a_second_place_is_new() -> None:
    one, two = results(step=(item(7),)), results(step=(item(7), item(8)))

    assert kinds(accepted(one).judge(two, today=TODAY)) == ["graph-break"]
    assert accepted(two).judge(two, today=TODAY).ok


def test_one_place_met_by_two_cases_is_one_entry() -> None:
    run = results(first=(item(),), second=(item(),))

    (entry,) = accepted(run).entries
    assert (entry.places, entry.cases) == (1, ("first", "second"))
    assert accepted(run).judge(run, today=TODAY).ok


def test_a_finding_without_a_place_belongs_to_its_case() -> None:
    nothing = Finding("nothing-compiled", "no graph")
    baseline = accepted(results(first=(nothing,)))

    judged = baseline.judge(results(first=(nothing,), second=(nothing,)), today=TODAY)

    assert [case.name for case, _ in judged.findings()] == ["second"]


def test_measured_numbers_and_addresses_do_not_make_a_new_finding() -> None:
    texts = ("off by 1.5e-3 of <f at 0x7f01>", "off by 2.25 of <f at 0x7f02>")
    first, second = (results(step=(item(reason=text),)) for text in texts)

    assert accepted(first).judge(second, today=TODAY).ok
    budget = [results(step=(item(reason=f"{n} graphs"),)) for n in (2, 3)]
    assert not accepted(budget[0]).judge(budget[1], today=TODAY).ok


# ------------------------------------------------------------------ stale entries


def test_it_is_accepted_on_its_last_day_and_fails_on_the_next() -> None:
    run = results(step=(item(),))
    baseline = accepted(run, expires=TODAY)

    assert baseline.judge(run, today=TODAY).ok
    assert kinds(baseline.judge(run, today=date(2026, 11, 24))) == [
        "graph-break",
        "baseline-expired",
    ]


def test_what_has_vanished_must_leave_the_file() -> None:
    baseline = accepted(results(step=(item(),)))

    judged = baseline.judge(results(step=()), today=TODAY)

    (finding,) = [finding for _, finding in judged.findings()]
    assert str(finding) == (
        "baseline-vanished: model.py: graph-break: Tensor.item() (no longer found)"
    )
    assert judged.cases[-1].name == "baseline"


def test_a_case_whose_file_is_gone_does_not_keep_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = Results((CaseResult("old.py::f", AuditReport(findings=(item(),))),), "2.13.0")
    run = Results((CaseResult("new.py::f", AuditReport()),), "2.15.0")
    baseline = accepted(old)
    file = tmp_path / "old.py"
    file.touch()
    assert baseline.judge(run, today=TODAY).ok  # this run does not audit it
    monkeypatch.chdir(tmp_path.parent)
    assert replace(baseline, folder=tmp_path).judge(run, today=TODAY).ok

    file.unlink()

    assert kinds(baseline.judge(run, today=TODAY)) == ["baseline-vanished"]
    assert accepted(run, baseline).entries == ()


def test_a_case_whose_file_is_gone_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.py").touch()
    cases = (
        CaseResult(f"{name}.py::f", AuditReport(findings=(item(),))) for name in ("old", "new")
    )
    baseline = accepted(Results(tuple(cases), "2.13.0"))

    clean = Results((CaseResult("new.py::f", AuditReport()),), "2.13.0")

    assert kinds(baseline.judge(clean, today=TODAY)) == ["baseline-vanished"]
    assert baseline.judge(replace(clean, torch="2.15.0"), today=TODAY).ok


def test_the_order_of_findings_does_not_matter() -> None:
    """They are ordered by cost, which may be measured."""
    baseline = accepted(results(step=(item(7),)))

    for order in ((item(7), item(9)), (item(9), item(7))):
        (finding,) = (f for _, f in baseline.judge(results(step=order), today=TODAY).findings())
        assert finding.line == 9


def test_vanished_from_one_of_two_places() -> None:
    baseline = accepted(results(step=(item(7), item(8))))

    judged = baseline.judge(results(step=(item(7),)), today=TODAY)

    assert kinds(judged) == ["baseline-vanished"]
    assert "(found at 1 of 2 places)" in str(next(judged.findings())[1])


@pytest.mark.parametrize(
    "run",
    [
        results(other=()),
        results("2.15.0", first=(), second=()),
        results(first=()),
    ],
)
def test_only_a_run_of_its_cases_on_its_torch_says_that_it_vanished(run: Results) -> None:
    baseline = accepted(results(first=(item(),), second=(item(),)))

    assert baseline.judge(run, today=TODAY).ok
    assert accepted(run, baseline).entries == baseline.entries


def test_the_build_of_torch_does_not_matter() -> None:
    baseline = accepted(results("2.13.0+cpu", step=(item(),)))

    assert baseline.entries[0].torch == "2.13.0"
    assert kinds(baseline.judge(results("2.13.0+cu126", step=()), today=TODAY)) == [
        "baseline-vanished"
    ]


# ------------------------------------------------------------------ updates


def test_an_update_keeps_reasons_drops_what_is_gone_and_adds_what_is_new() -> None:
    other = item(source="y.item()")
    before = accepted(results(step=(item(), other)), reason="old", expires=date(2026, 12, 1))

    after = accepted(results(step=(item(), item(kind="fallback"))), before)

    assert [(e.kind, e.reason, e.expires) for e in after.entries] == [
        ("graph-break", "old", date(2026, 12, 1)),
        ("fallback", "for now", LATER),
    ]


def test_an_update_renews_what_has_expired_and_drops_it_where_it_is_gone() -> None:
    run = results(step=(item(),))
    before = accepted(run, reason="old", expires=date(2026, 1, 1))

    (renewed,) = accepted(run, before).entries

    assert (renewed.reason, renewed.expires) == ("for now", LATER)
    assert accepted(results(other=()), before).entries == ()


def test_an_update_of_some_cases_keeps_the_places_of_the_others() -> None:
    before = accepted(results(first=(item(7),), second=(item(8),)))

    (entry,) = accepted(results(first=(item(7),)), before).entries

    assert (entry.places, entry.cases) == (2, ("first", "second"))


findings = st.builds(
    item,
    line=st.integers(1, 4),
    kind=st.sampled_from(["graph-break", "recompile"]),
    source=st.sampled_from(["x.item()", "y.item()", ""]),
    file=st.sampled_from(["model.py", ""]),
    reason=st.text(max_size=8),
)
runs = st.dictionaries(
    st.sampled_from(["first", "second", "third"]), st.lists(findings, max_size=4).map(tuple)
).map(lambda cases: results(**cases))


@given(run=runs, before=runs)
def test_after_an_update_the_same_run_is_clean(
    run: Results, before: Results, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("baseline") / "baseline.json"
    accepted(run, accepted(before)).save(file)

    judged = Baseline.load(file).judge(run, today=TODAY)

    assert judged.ok
    seen = sum(len(case.known) for case in judged.cases)
    assert seen == sum(len(case.report.findings) for case in run.cases)


@given(run=runs)
def test_the_fingerprint_is_a_function_of_the_identity(run: Results) -> None:
    prints = {
        identity(case.name, f): identity(case.name, f).fingerprint() for case, f in run.findings()
    }

    assert len(set(prints.values())) == len(prints)


# ------------------------------------------------------------------ the file


def test_the_file_is_readable_and_sorted(tmp_path: Path) -> None:
    run = results(step=(item(source="y.item()"), item(file="a.py")))
    file = tmp_path / "baseline.json"

    accepted(run).save(file)

    document = json.loads(file.read_text())
    assert [entry["file"] for entry in document["findings"]] == ["a.py", "model.py"]
    assert document["findings"][0] == {
        "kind": "graph-break",
        "file": "a.py",
        "source": "x.item()",
        "headline": "Tensor.item()",
        "case": "",
        "places": 1,
        "cases": ["step"],
        "torch": "2.13.0",
        "reason": "for now",
        "expires": "2027-02-21",
    }
    assert set(Baseline.load(file).entries) == set(accepted(run).entries)


ENTRY = {
    "kind": "graph-break",
    "file": "a.py",
    "source": "x",
    "headline": "h",
    "case": "",
    "places": 1,
    "cases": [],
    "torch": "2.13.0",
    "reason": "r",
    "expires": "2027-02-21",
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", 'expected an object with "version": 2'),
        ('{"version": 1, "findings": []}', 'expected an object with "version": 2'),
        ('{"version": 2}', 'expected a list under "findings"'),
        ('{"version": 2, "findings": [{"kind": "x"}]}', "expected an entry with kind, file,"),
        (
            json.dumps({"version": 2, "findings": [{**ENTRY, "until": ""}]}),
            "expected an entry with",
        ),
        (
            json.dumps({"version": 2, "findings": [{**ENTRY, "reason": ""}]}),
            "'reason': expected a non-empty string, got ''",
        ),
        (
            json.dumps({"version": 2, "findings": [{**ENTRY, "places": 0}]}),
            "'places': expected a positive integer, got 0",
        ),
        (
            json.dumps({"version": 2, "findings": [{**ENTRY, "cases": "a"}]}),
            "'cases': expected a list of strings, got 'a'",
        ),
        (
            json.dumps({"version": 2, "findings": [{**ENTRY, "kind": 3}]}),
            "'kind': expected a string, got 3",
        ),
        (
            json.dumps({"version": 2, "findings": [{**ENTRY, "expires": "soon"}]}),
            "'expires': expected a date as YYYY-MM-DD, got 'soon'",
        ),
    ],
)
def test_a_file_that_is_no_baseline_is_named_with_what_is_wrong(
    text: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(text)

    with pytest.raises(BaselineError) as raised:
        Baseline.load(file)

    assert str(raised.value).startswith(f"{file}: ")
    assert message in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="No such file"):
        Baseline.load(tmp_path / "baseline.json")
