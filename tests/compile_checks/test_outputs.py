"""The full text of each report format, and its escapes."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from expecttest import assert_expected_inline
from hypothesis import given
from hypothesis import strategies as st

from compile_checks._engine.findings import AuditReport, Finding
from compile_checks._engine.results import CaseResult, Known, Results
from compile_checks.outputs import (
    FILE_FORMATS,
    github,
    html,
    json,
    junit,
    markdown,
    rendered,
    terminal,
)
from compile_checks.outputs.text import printable, total
from compile_checks.rules import KINDS
from tests.compile_checks.results import results


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.chdir(tmp_path)
    return results(tmp_path)


def one(finding: Finding, name: str = "case") -> Results:
    return Results((CaseResult(name, AuditReport(1, findings=(finding,))),), "2.13.0")


def test_a_finding_s_full_text_says_nothing_twice() -> None:
    reason = "broken\n  Explanation: it is.\n  Hint: do this.\n  Hint: or that.\n"
    finding = Finding("graph-break", reason, hint="do this.\nor that.\nor wait.")

    for hint in ("do this.", "or that.", "or wait."):
        assert finding.full_text().count(hint) == 1


def test_places_in_a_notebook_name_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython is not installed here: this is the part of it that names the code of cells."""
    cell = "/tmp/ipykernel_7/123.py"
    names = {cell: ("Cell", "In[3]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=names.get))
    found = Finding("graph-break", "no", file=cell, line=7, called_from=f"{cell}:9")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    assert found.full_text() == "Cell In[3]:7: graph-break: no\n    called from: Cell In[3]:9"
    assert str(replace(found, file="/src/model.py")) == "/src/model.py:7: graph-break: no"

    for none in (None, SimpleNamespace(compile=None)):  # no shell, and an old one
        ipython = SimpleNamespace(get_ipython=lambda shell=none: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert str(found) == f"{cell}:7: graph-break: no"


@pytest.mark.parametrize("form", FILE_FORMATS)
def test_a_report_in_python_has_the_formats_of_the_command(form: str) -> None:
    report = AuditReport(1, findings=(Finding("graph-break", "no", file="model.py", line=7),))
    case = Results((CaseResult("audit", report),), torch.__version__)

    assert rendered(report, form) == FILE_FORMATS[form](case)


def test_a_report_has_no_other_format() -> None:
    with pytest.raises(ValueError, match=r"form: expected one of html, .*, got 'pdf'"):
        rendered(AuditReport(1), "pdf")


# ------------------------------------------------------------------ terminal


def test_the_table(run: Results) -> None:
    assert_expected_inline(
        terminal.render(run),
        """\
case                                             graphs breaks recompiles result
model.py::step                                        2      2          0 FAIL
  model & co.py:5: graph-break: Data-dependent branching (2 times)
    > if x.sum() > 0:  # `<b>` & "co": 100%
    hint: Use `torch.cond` to express dynamic control flow.
    hint: Or torch.where <b>.
    see: https://meta-pytorch.github.io/compile-graph-break-site/gb/gb0170.html
grow|s, <fast>                                        3      0          2 FAIL
  recompile: tensor 'x' size mismatch at index 0. expected 3, actual 4
    argument: x
    changed: size
    owner: einops
  graph-budget: 3 graphs compiled, at most 1 expected
old                                                   1      0          0 known
  known until 2027-01-31: lib.py:9: fallback: a frame was left [waits for torch
    2.16 ]]>]
clean                                                 1      0          0 ok
  note: no <GPU>

4 cases, 2 failed, 1 known finding
""",
    )


def test_colour_adds_nothing_but_escapes(run: Results) -> None:
    colored = terminal.Table(color=True).render(run)

    assert "\x1b[31mFAIL\x1b[0m" in colored
    assert "\x1b[32mok\x1b[0m" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == terminal.render(run)


def test_what_two_cases_share_is_explained_once() -> None:
    finding = Finding("graph-break", "broken", file="m.py", line=3, source="x.item()", hint="do")
    report = AuditReport(1, findings=(finding,))
    other = AuditReport(1, findings=(replace(finding, case="second", count=2),))

    table = terminal.render(
        Results((CaseResult("first", report), CaseResult("second", other)), "2.13.0")
    )

    assert table.count("m.py:3: graph-break: broken") == 2
    assert table.count("hint: do") == table.count("> x.item()") == 1


def test_a_long_name_has_a_line_of_its_own() -> None:
    name = "package.module:" + "long" * 12
    table = terminal.render(Results((CaseResult(name, AuditReport(1)),), "2.13.0"))

    assert table.splitlines()[1] == name
    assert table.splitlines()[2].split() == ["1", "0", "0", "ok"]
    assert len(table.splitlines()[2]) <= 80


def results_with(text: st.SearchStrategy[str]) -> st.SearchStrategy[Results]:
    """Returns the results of one case with a finding and a known finding that contain a text."""
    finding = st.builds(
        Finding,
        st.sampled_from(sorted(KINDS)),
        text,
        hint=text,
        file=st.sampled_from(["", "a b.py", "/x:y,z%.py", "<string>"]),
        line=st.integers(0, 3),
        source=text,
        owner=text,
        count=st.integers(1, 3),
        guard=text,
        argument=text,
    )
    known = st.builds(Known, finding, text, st.just("2027-01-01"))
    report = st.builds(AuditReport, st.just(1), findings=st.tuples(finding))
    case = st.builds(CaseResult, text, report, known=st.tuples(known))
    return st.builds(Results, st.tuples(case), st.just("2.13.0"))


any_results = results_with(st.text(st.characters(codec=None), max_size=40))


@given(any_results)
def test_the_table_holds_no_control_characters(run: Results) -> None:
    table = terminal.render(run)

    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", table)


@given(any_results)
def test_every_output_can_be_written(run: Results) -> None:
    for render in FILE_FORMATS.values():
        render(run).encode("utf-8")


# ------------------------------------------------------------------ GitHub


def test_annotations(run: Results) -> None:
    assert_expected_inline(
        github.render(run),
        """\
::error file=model & co.py,line=5,title=graph-break in model.py%3A%3Astep::Data-dependent branching (2 times)%0Ahint: Use `torch.cond` to express dynamic control flow.%0Ahint: Or torch.where <b>.
::error file=/src/m%3A1%2C2.py,line=3,title=recompile in grow|s%2C <fast>::tensor 'x' size mismatch at index 0. expected 3, actual 4%0Aargument: x
::error file=/src/m%3A1%2C2.py,line=3,title=graph-budget in grow|s%2C <fast>::3 graphs compiled, at most 1 expected
""",
    )


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_what_else_ends_a_line_is_escaped(separator: str) -> None:
    assert f"a{separator}b".splitlines() == ["a", "b"]
    assert printable(f"a{separator}b") == f"a{ascii(separator)[1:-1]}b"


@given(any_results)
def test_an_annotation_is_one_line_and_one_command(run: Results) -> None:
    (line,) = github.render(run).splitlines()
    command, properties, _ = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line).groups()  # type: ignore[union-attr]

    assert command == "error"
    names = [item.partition("=")[0] for item in properties.split(",")]
    assert names in (["title"], ["file", "line", "title"])


# ------------------------------------------------------------------ Markdown


def test_markdown(run: Results) -> None:
    assert_expected_inline(
        markdown.render(run),
        """\
# Audit of torch.compile

**FAIL**: 4 cases, 2 failed, 1 known finding (torch 2.13.0)

| case | graphs | breaks | recompiles | result |
| --- | --: | --: | --: | --- |
| model.py::step | 2 | 2 | 0 | **FAIL** |
| grow\\|s, &lt;fast&gt; | 3 | 0 | 2 | **FAIL** |
| old | 1 | 0 | 0 | known |
| clean | 1 | 0 | 0 | ok |

## model.py::step

### graph-break: Data-dependent branching

graph-break at `model & co.py:5`, 2 times

```python
if x.sum() > 0:  # `<b>` & "co": 100%
```

- hint: Use \\`torch.cond\\` to express dynamic control flow.
- hint: Or torch.where &lt;b&gt;.
- see: https://meta-pytorch.github.io/compile-graph-break-site/gb/gb0170.html

## grow\\|s, &lt;fast&gt;

### recompile: tensor 'x' size mismatch at index 0. expected 3, actual 4

recompile at `/src/m:1,2.py:3`

- argument: x
- changed: size
- owner: einops

### graph-budget: 3 graphs compiled, at most 1 expected

graph-budget at `/src/m:1,2.py:3`

## old

- known until 2027-01-31: lib.py:9: fallback: a frame was left (waits for torch 2.16 \\]\\]&gt;)

## clean

- note: no &lt;GPU&gt;
""",
    )


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a|b", r"a\|b"),
        ("<img>", "&lt;img&gt;"),
        ("_x_ `y` *z*", r"\_x\_ \`y\` \*z\*"),
        ("[a](b)", r"\[a\](b)"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_name_is_no_markdown(given: str, written: str) -> None:
    table = markdown.render(Results((CaseResult(given, AuditReport(1)),), "2.13.0"))

    assert f"| {written} | 1 | 0 | 0 | ok |" in table


@pytest.mark.parametrize(
    ("source", "fence"), [("x", "```"), ("a ``` b", "````"), ("`````", "``````")]
)
def test_a_source_cannot_leave_its_block(source: str, fence: str) -> None:
    page = markdown.render(one(Finding("fallback", "r", file="m.py", line=1, source=source)))

    assert f"\n{fence}python\n{source}\n{fence}\n" in page


def test_a_path_with_backticks_is_code() -> None:
    page = markdown.render(one(Finding("fallback", "r", file="a`b.py", line=1)))

    assert "at `` a`b.py:1 ``" in page


# ------------------------------------------------------------------ JUnit


def test_junit(run: Results) -> None:
    assert_expected_inline(
        junit.render(run),
        """\
<?xml version="1.0" encoding="utf-8"?>
<testsuites name="compile_checks" tests="4" failures="2" errors="0" time="1.875">
  <testsuite name="compile_checks" tests="4" failures="2" errors="0" time="1.875">
    <properties>
      <property name="torch" value="2.13.0" />
    </properties>
    <testcase classname="compile_checks" name="model.py::step" time="1.250">
      <failure type="graph-break" message="model &amp; co.py:5: graph-break: Data-dependent branching (2 times)">model &amp; co.py:5: graph-break: Data-dependent branching (2 times)
    source: if x.sum() &gt; 0:  # `&lt;b&gt;` &amp; "co": 100%
    Explanation: `if` on a &lt;Tensor&gt;\\x1b[31m.

    id: GB0170
    hint: Use `torch.cond` to express dynamic control flow.
    Or torch.where &lt;b&gt;.</failure>
    </testcase>
    <testcase classname="compile_checks" name="grow|s, &lt;fast&gt;" time="0.500" file="/src/m:1,2.py" line="3">
      <failure type="recompile" message="recompile: tensor 'x' size mismatch at index 0. expected 3, actual 4 (and 1 more)">recompile: tensor 'x' size mismatch at index 0. expected 3, actual 4
    owner: einops
    guard: tensor 'x' size mismatch at index 0. expected 3, actual 4
    argument: x
    category: size

graph-budget: 3 graphs compiled, at most 1 expected
    see [x](y) and a_b_c</failure>
    </testcase>
    <testcase classname="compile_checks" name="old" time="0.000">
      <system-out>known until 2027-01-31 (waits for torch 2.16 ]]&gt;): lib.py:9: fallback: a frame was left</system-out>
    </testcase>
    <testcase classname="compile_checks" name="clean" time="0.125" />
  </testsuite>
</testsuites>
""",
    )


@given(any_results)
def test_junit_is_well_formed_and_counts_itself(run: Results) -> None:
    root = ElementTree.fromstring(junit.render(run).encode())
    (suite,) = root
    cases = suite.findall("testcase")

    for element in (root, suite):
        assert int(element.attrib["tests"]) == len(cases) == len(run.cases)
        assert int(element.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(element.attrib["errors"]) == len(suite.findall("testcase/error"))


@pytest.mark.parametrize(
    ("kind", "element"), [("crash", "error"), ("timeout", "error"), ("export", "failure")]
)
def test_a_case_that_did_not_get_through_is_an_error(kind: str, element: str) -> None:
    root = ElementTree.fromstring(junit.render(one(Finding(kind, "r"))))  # type: ignore[arg-type]

    found = root.find(f"testsuite/testcase/{element}")
    assert found is not None
    assert found.attrib == {"type": kind, "message": f"{kind}: r"}


# ------------------------------------------------------------------ HTML


class Page(HTMLParser):
    """Checks that elements are nested properly, and collects what a browser would load."""

    VOID = ("meta",)

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.resources: list[str] = []
        self.hits: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if named.get("class") == "hit":
            self.hits.append(named["title"])
        if tag == "a":
            self.links.append(named.pop("href"))
        self.resources += [named[name] for name in ("src", "srcset", "href") if name in named]
        assert not [name for name in named if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_each_break_is_shown_in_its_source_between_its_graphs(run: Results) -> None:
    page = html.render(run)
    parsed = Page(page)

    source = (Path.cwd() / "model & co.py").read_text()
    shown = "".join(parsed.texts)
    assert all(line in shown for line in source.splitlines())
    assert parsed.hits == ["graph-break", "graph-break"]  # in the excerpt, and in the whole file
    before, after = (
        re.search(rf"<summary>graph {side} the break</summary>(.*?)</details>", page, re.DOTALL)
        for side in ("before", "after")
    )
    assert before is not None
    assert after is not None
    assert "3 ops<" in before[1]
    assert "<pre>gt = x.sum() &gt; 0  # &lt;before&gt;</pre>" in before[1]
    assert "1 op<" in after[1]
    assert "<pre>return x * 2</pre>" in after[1]
    assert "Explanation: `if` on a &lt;Tensor&gt;\\x1b[31m." in page


def test_links_lead_somewhere_and_nothing_is_loaded(run: Results) -> None:
    page = html.render(run)
    parsed = Page(page)

    assert not {"script", "img", "iframe", "link", "object"} & set(parsed.tags)
    assert parsed.resources == []
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert len(set(parsed.ids)) == len(parsed.ids)
    local = [link[1:] for link in parsed.links if link.startswith("#")]
    assert local
    assert set(local) <= set(parsed.ids)
    outside = [link for link in parsed.links if not link.startswith("#")]
    assert outside == ["https://meta-pytorch.github.io/compile-graph-break-site/gb/gb0170.html"]


def test_two_files_are_shown_apart(run: Results, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("first\nsecond\n")
    finding = Finding("fallback", "r", file=str(other), line=2)
    more = CaseResult("more", AuditReport(1, findings=(finding,)))

    parsed = Page(html.render(replace(run, cases=(*run.cases, more))))

    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {"source-1", "source-1-5", "source-3", "source-3-2"} <= set(parsed.ids)
    assert "#source-3-2" in parsed.links


def test_a_break_at_the_start_has_no_graph_before_it(run: Results) -> None:
    case = run.cases[0]
    report = replace(case.report, captured_graphs=case.report.captured_graphs[1:])

    page = html.render(replace(run, cases=(replace(case, report=report),)))

    assert "graph before the break" not in page
    assert "graph after the break" in page


def test_code_that_is_in_no_file_is_shown_by_its_line() -> None:
    page = html.render(one(Finding("fallback", "r", file="<string>", line=3, source="x < y")))

    assert "<pre>x &lt; y</pre>" in page
    assert "&lt;string&gt;:3" in page


@given(any_results)
def test_whatever_is_in_it_the_page_stays_whole(run: Results) -> None:
    parsed = Page(html.render(run))

    assert set(parsed.tags) <= {
        *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "a"),
        *("table", "tr", "th", "td", "section", "article", "span", "pre", "i", "dl", "dt", "dd"),
        *("details", "summary", "figure", "figcaption"),
    }


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize(
    "render", [*FILE_FORMATS.values(), terminal.render], ids=[*FILE_FORMATS, "terminal"]
)
def test_a_clean_run_of_nothing(render: Callable[[Results], str]) -> None:
    assert render(Results((), "2.13.0"))


@pytest.mark.parametrize(
    "render", [*FILE_FORMATS.values(), terminal.render], ids=[*FILE_FORMATS, "terminal"]
)
def test_every_output_names_every_case_and_finding(
    render: Callable[[Results], str], run: Results
) -> None:
    written = render(run)

    for name in ("model.py::step", "old"):
        assert name in written
    for part in ("Data-dependent branching", "size mismatch at index 0", "3 graphs compiled"):
        assert part in written
    assert "waits for torch 2.16" in " ".join(written.split())


@given(results_with(st.text(max_size=40)))
def test_json_read_back_is_the_same(run: Results) -> None:
    again = json.read(json.render(run))

    assert again == run
    assert json.render(again) == json.render(run)


def test_json_keeps_graphs_and_notes(run: Results) -> None:
    again = json.read(json.render(run))

    for case, same in zip(run.cases, again.cases, strict=True):
        assert same.report.captured_graphs == case.report.captured_graphs
        assert same.report.notes == case.report.notes
        assert same.known == case.known


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": "2.0"}', '{"schema_version": 1}'])
def test_json_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a report with schema_version 1\.x, got "):
        json.read(text)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (None, "2 cases, none failed"),
        ("error", "2 cases, 1 failed"),
        ("baseline-expired", "1 case, none failed, stale entries in the baseline"),
        ("baseline-vanished", "1 case, none failed, stale entries in the baseline"),
    ],
)
def test_stale_entries_of_a_baseline_are_not_a_case(kind: str | None, said: str) -> None:
    """A user's case may have the same name."""
    findings = (Finding(kind, "why"),) if kind else ()
    last = CaseResult("baseline", AuditReport(findings=findings))

    assert total(Results((CaseResult("f", AuditReport()), last), "2.13.0")) == said
