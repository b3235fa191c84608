"""The survey of installed libraries."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from compile_checks._engine.findings import AuditReport, Finding
from compile_checks._engine.results import CaseResult
from compile_checks.survey import __main__ as survey
from compile_checks.survey import tasks
from compile_checks.survey.instance import Instance
from compile_checks.survey.rows import ABSENT, Row, Store, row_of
from compile_checks.survey.table import render

FORWARD = Row("timm/vit", "forward", graphs=1, seconds=2.5)
BROKEN = Row("timm/odd", "forward", 2, 1, 0, 3.0, "odd.py:7: graph-break: a | b")
SKIPPED = Row("timm/big", "forward", skipped="ValueError: no")


def test_rows_survive_a_file_whose_last_line_was_cut_off(tmp_path: Path) -> None:
    store = Store(tmp_path / "rows.jsonl")
    assert store.rows() == []

    store.add([FORWARD, BROKEN])
    store.add([SKIPPED])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"name": "timm/hal')

    store = Store(tmp_path / "rows.jsonl")
    assert store.rows() == [FORWARD, BROKEN, SKIPPED]
    store.add([FORWARD])
    assert store.rows() == [FORWARD, BROKEN, SKIPPED, FORWARD]


def test_the_row_of_a_result() -> None:
    again = Finding("recompile", "size of x\nmore", file="/x/model.py", line=3, count=2)
    other = Finding("mismatch", "differs", count=3)
    report = AuditReport(graphs=3, findings=(again, other))

    row = row_of(CaseResult("timm/vit, decode", report, seconds=1.26))

    problem = "model.py:3: recompile: size of x"
    assert row == Row("timm/vit", "decode", 3, 0, 2, 1.3, problem)


def test_the_row_of_what_was_not_surveyed_and_of_a_crash() -> None:
    skipped = AuditReport(notes=("not surveyed: TypeError: no input",))
    assert row_of(CaseResult("timm/vit, forward", skipped)).skipped == "TypeError: no input"

    crash = AuditReport(findings=(Finding("crash", "exited with status 1"),))
    row = row_of(CaseResult("timm/vit", crash))
    assert (row.name, row.run, row.problem) == ("timm/vit", "all", "crash: exited with status 1")


def test_the_table() -> None:
    slow = Row("timm/slow", "all", problem="timeout: too slow")
    rows = [FORWARD, BROKEN, SKIPPED, Row("timm/vit", "decode", graphs=2, recompiles=1), slow]

    assert render(rows, "torch 2.13.0, timm 1.0") == (
        "torch 2.13.0, timm 1.0\n"
        "\n"
        "- forward: 2 architectures, 1 without a finding, 1 with graph breaks, 0 with recompiles\n"
        "- decode: 1 architecture, 1 without a finding, 0 with graph breaks, 1 with recompiles\n"
        "- 1 architecture crashed or took too long\n"
        "\n"
        "| architecture | pass | graphs | breaks | recompiles | seconds | first finding |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | --- |\n"
        "| timm/odd | forward | 2 | 1 | 0 | 3.0 | odd.py:7: graph-break: a \\| b |\n"
        "| timm/slow | all | 0 | 0 | 0 | 0.0 | timeout: too slow |\n"
        "\n"
        "Without a finding: timm/vit (forward), timm/vit (decode).\n"
        "\n"
        "Not surveyed, because they need other inputs or do not fit:\n"
        "\n"
        "- timm/big: ValueError: no\n"
    )


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one library, with one architecture."""
    monkeypatch.setattr(survey, "LIBRARIES", {"timm": "timm"})
    monkeypatch.setattr(survey, "installed", lambda: {"timm": "1.0"})
    monkeypatch.setattr(tasks, "library", lambda name: SimpleNamespace(names=lambda: ["vit"]))


@pytest.mark.parametrize("options", [[], ["--library", "timm"]])
def test_without_a_library_there_is_nothing_to_survey(
    options: list[str],
    library: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(survey, "installed", dict)

    assert survey.main([str(tmp_path / "rows.jsonl"), *options]) == 2
    assert capsys.readouterr().err == "survey: error: not installed: timm\n"


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("rows", ["--only", "("], "--only: invalid regular expression '(': missing ), "),
        ("rows", ["--backend", "none"], "--backend: unknown backend 'none'; expected one of "),
        ("no/such/rows", [], "FILE: [Errno 2] No such file or directory: "),
        (".", [], "FILE: [Errno 21] Is a directory: "),
    ],
)
def test_wrong_arguments_stop_before_any_audit(
    file: str,
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        survey.main([str(tmp_path / file), *options])

    assert f"error: argument {message}" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_an_expression_that_matches_nothing_is_an_error(
    library: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert survey.main([str(tmp_path / "rows"), "--only", "bert"]) == 2
    assert capsys.readouterr().err == "survey: error: --only 'bert' matches no architecture\n"
    assert not [*tmp_path.iterdir()]


def test_a_file_of_something_else_is_an_error_and_is_kept(
    library: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("hello\n", '{"ok": true}\n', "[]\n", "hello", '{"ok": true}'):
        (tmp_path / "rows").write_text(text)
        assert survey.main([str(tmp_path / "rows")]) == 2
        assert "rows is not a file of results: " in capsys.readouterr().err
        assert (tmp_path / "rows").read_text() == text


def test_a_survey_that_is_complete_says_so(
    library: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(tmp_path / "rows").add([FORWARD, Row("timm/vit", "decode")])

    assert survey.main([str(tmp_path / "rows")]) == 0
    output = capsys.readouterr()
    assert output.err == f"survey: {tmp_path / 'rows'} contains all of them already\n"
    assert "- forward: 1 architecture, " in output.out


def test_only_what_the_file_does_not_contain_is_audited() -> None:
    """What was asked for is done, even if it has no row of its own."""
    whole = Row("timm/vit", "forward", graphs=1, asked="forward decode")
    late = Row("timm/slow", "all", problem="timeout: too slow", asked="forward")
    done = FORWARD.done | SKIPPED.done | whole.done | late.done

    assert rest("vit", done) == ("training",)
    assert rest("big", done) == ("training", "decode")
    assert rest("slow", done) == ("training", "decode")
    assert rest("odd", done) == tasks.PASSES


def rest(architecture: str, done: set[tuple[str, str]]) -> tuple[str, ...]:
    """The passes of an architecture to audit."""
    of_library = SimpleNamespace(names=lambda: [architecture])
    with mock.patch.object(tasks, "library", return_value=of_library):
        (task,) = tasks.Survey(("timm",), "", frozenset(done), tasks.PASSES, "eager").tasks()
    return task.passes


def test_a_pass_that_an_architecture_lacks_is_kept_but_not_shown(
    library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance(torch.nn.Identity(), [((torch.ones(1),), {})])
    monkeypatch.setattr(tasks, "library", lambda name: SimpleNamespace(build=lambda name: instance))
    task = tasks.SurveyTask("timm", "vit", ("decode",), "eager")

    ((name, report),) = task.run()

    row = row_of(CaseResult(name, report))
    assert (row.name, row.run, row.graphs, row.skipped) == ("timm/vit", "decode", 0, ABSENT)
    assert "vit" not in render([row], "torch 2.13.0")


def test_an_interrupted_survey_shows_no_traceback(
    library: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "run", interrupt)

    assert survey.main([str(tmp_path / "rows")]) == 130
    assert capsys.readouterr().err == "survey: interrupted; the same command continues it\n"


@pytest.mark.parametrize(
    ("models", "small"),
    [
        (
            "swin_base_patch4 swin_s3_base_224 swin_small_patch4 swin_tiny_patch4",
            "swin_tiny_patch4",
        ),
        ("levit_128 levit_128s levit_384_s8", "levit_128"),
        ("cait_m36_384 cait_s24_224 cait_xs24_384 cait_xxs24_224", "cait_xxs24_224"),
        ("legacy_senet154 legacy_seresnet18 legacy_seresnet34", "legacy_seresnet18"),
        ("pit_s_224 pit_ti_224 pit_xs_224", "pit_ti_224"),
        ("mambaout_base_short_rw mambaout_small", "mambaout_small"),
        ("beit_base_patch16 beit_large_patch16", "beit_base_patch16"),
    ],
)
def test_sizes_are_whole_words(models: str, small: str) -> None:
    name = "compile_checks.survey.libraries.timm"
    with mock.patch.dict(sys.modules, {"timm": SimpleNamespace()}):  # it need not be installed
        sys.modules.pop(name, None)
        assert import_module(name).smallest(models.split()) == small


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra [transformers]")
def test_a_survey_of_transformers_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bridgetower` needs other inputs. A second run adds only what is missing."""
    file = tmp_path / "rows.jsonl"
    command = [str(file), "--library", "transformers", "--jobs", "2", "--only"]

    assert survey.main([*command, "/(llama|bridgetower)$"]) == 0
    first = file.read_text()
    rows = {(row.name, row.run): row for row in Store(file).rows()}
    llama = rows["transformers/llama", "forward"]
    assert (llama.graphs, llama.breaks, llama.problem) == (1, 0, "")
    decoding = rows["transformers/llama", "decode"]
    assert (decoding.graphs, decoding.recompiles, decoding.problem) == (2, 0, "")
    assert rows["transformers/bridgetower", "forward"].skipped

    assert survey.main([*command, "/(llama|vit)$", "--passes", "decode", "training"]) == 0
    assert file.read_text().startswith(first)
    added = [json.loads(line) for line in file.read_text()[len(first) :].splitlines()]
    assert {(row["name"], row["run"], row["graphs"]) for row in added} == {
        ("transformers/llama", "training", 1),
        ("transformers/vit", "training", 1),
    }
    out = capsys.readouterr().out
    assert "- training: 2 architectures, 2 without a finding, " in out

    # `vit` has no decoder.
    assert survey.main([*command, "/vit$", "--passes", "decode"]) == 0
    assert "contains all of them already" in capsys.readouterr().err
