"""Comments in the code ignore findings; those that ignore nothing are findings."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from compile_checks.__main__ import main
from compile_checks.command import suppressions

MODEL = """
    import torch

    def helper(x):
        return x * 3{helper}

    def step(x):
        torch._dynamo.graph_break(){broken}
        return helper(x) + 1{clean}

    def other(x):
        torch._dynamo.graph_break(){other}
        return x

    example_inputs = (torch.ones(3),)
"""
IGNORE = "  # compile-checks: ignore[{}] {}"


def audited(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str, **comments: str
) -> tuple[int, dict[str, Any]]:
    name = f"model_{abs(hash((folder, *comments.items()))):x}"
    lines = dict.fromkeys(("helper", "broken", "clean", "other"), "") | comments
    (folder / f"{name}.py").write_text(textwrap.dedent(MODEL).format(**lines))
    monkeypatch.chdir(folder)
    status = main([f"{name}.py::step", "--json", "report.json", *options])
    (case,) = json.loads((folder / "report.json").read_text())["cases"]
    return status, case


def found(case: dict[str, Any]) -> list[tuple[str, int]]:
    return [(finding["kind"], finding["line"]) for finding in case["findings"]]


BREAK, UNUSED = (
    ("graph-break", 8),
    "the comment ignores graph-break, which is not found on this line",
)


def test_a_comment_with_a_reason_ignores_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    comment = IGNORE.format("recompile, graph-break", "it logs")
    status, case = audited(tmp_path, monkeypatch, broken=IGNORE.format("graph-break", "it logs"))
    assert (status, found(case)) == (0, [])
    (known,) = case["known"]
    assert (known["finding"]["line"], known["reason"], known["expires"]) == (8, "it logs", "")
    assert "ignored: model_" in capsys.readouterr().out
    status, case = audited(tmp_path, monkeypatch, broken=f"  # noqa{comment}")
    assert (status, found(case)) == (0, [])  # other calls may recompile


@pytest.mark.parametrize(
    ("comment", "reasons"),
    [
        (IGNORE.format("graph-break", ""), ["nothing, because it gives no reason"]),
        (IGNORE.format("graph-brake", "it logs"), ["an unknown kind of finding, 'graph-brake'"]),
        (IGNORE.format("recompile", "it logs"), []),
        (
            "  # compile-checks: ignore graph-break it logs",
            ["nothing, because it names no kind in brackets"],
        ),
        (IGNORE.format("", "it logs"), ["nothing, because it names no kind in brackets"]),
        ('; "# compile-checks: ignore[graph-break] a text"', []),
    ],
)
def test_other_comments_ignore_nothing(
    comment: str, reasons: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, case = audited(tmp_path, monkeypatch, broken=comment)
    assert (status, case["known"]) == (1, [])
    assert found(case) == [BREAK, *[("suppression", 8)] * len(reasons)]
    texts = [f["reason"] for f in case["findings"][1:]]
    assert texts == [f"the comment ignores {reason}" for reason in reasons]


@pytest.mark.parametrize(("place", "line"), [("clean", 9), ("helper", 5)])
def test_an_unused_comment_is_a_finding(
    place: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the compiled function, and in one that is inlined."""
    comment = IGNORE.format("graph-break", "it logged")
    status, case = audited(tmp_path, monkeypatch, **{place: comment})
    assert (status, found(case)) == (1, [BREAK, ("suppression", line)])
    assert case["findings"][1]["reason"] == UNUSED


def test_a_comment_in_code_that_was_not_compiled_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comment = IGNORE.format("graph-break", "it logs")
    assert found(audited(tmp_path, monkeypatch, other=comment)[1]) == [BREAK]
    unreached = f"\n    if x is None:\n        print(x){comment}"
    assert found(audited(tmp_path, monkeypatch, broken=unreached)[1]) == [BREAK]


def test_comments_are_read_in_the_encoding_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "# -*- coding: latin-1 -*-\n"
        "import torch\n"
        "def f(x):\n"
        "    torch._dynamo.graph_break()  # compile-checks: ignore[graph-break] caf\xe9\n"
        "    return x + 1\n"
        "example_inputs = (torch.ones(3),)\n"
    )
    (tmp_path / "latin_model.py").write_bytes(text.encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    assert main(["latin_model.py::f"]) == 0


def test_a_fault_is_reported_once_for_all_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clean_model.py").write_text(
        "import torch\n"
        "def f(x):\n"
        "    return x + 1  # compile-checks: ignore[graph-break] it logged\n"
        "example_inputs = (torch.ones(3),)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["clean_model.py::f", "--mode", "all"]) == 1
    assert capsys.readouterr().out.count("suppression: ") == 1


def test_sarif_names_the_source_of_a_suppression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comment = IGNORE.format("graph-break", "it logs")
    audited(tmp_path, monkeypatch, "--sarif", "audit.sarif", broken=comment)
    (result,) = json.loads((tmp_path / "audit.sarif").read_text())["runs"][0]["results"]
    assert result["suppressions"] == [{"kind": "inSource", "justification": "it logs"}]


def test_a_baseline_does_not_list_what_a_comment_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comment = IGNORE.format("graph-break", "it logs")
    options = ("--baseline", "known.json", "--update-baseline", "--reason", "later")
    audited(tmp_path, monkeypatch, *options, broken=comment)
    assert '"graph-break"' not in (tmp_path / "known.json").read_text()


LINES = """
import torch

def step(x):
    x = (
        torch.sin(x)
        + x.sum().item()
        + {inner}
        x
    ){simple}
    if (
        x.sum()
        > 0
    ):{compound}
        x = x + 1{body}
    return x * 2

example_inputs = (torch.ones(3),)
"""
NO_COMMENT = dict.fromkeys(("inner", "simple", "compound", "body"), "")


@pytest.mark.parametrize(
    ("comments", "left"),
    [
        ((), [7, 12]),
        (("simple",), [12]),
        (("compound",), [7]),
        (("simple", "compound"), []),
        (("inner",), [7, 12]),  # in the middle, it is about its own line
        (("body",), [7, 12]),
    ],
)
def test_a_comment_at_the_end_of_a_statement_is_about_all_its_lines(
    comments: tuple[str, ...], left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comment = IGNORE.format("graph-break", "it is rare")
    name = f"lines_{'_'.join(comments)}"
    text = LINES.format(**NO_COMMENT | dict.fromkeys(comments, comment))
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)

    main([f"{name}.py::step", "--json", "report.json"])

    (case,) = json.loads((tmp_path / "report.json").read_text())["cases"]
    assert [line for kind, line in sorted(found(case)) if kind == "graph-break"] == left


def test_a_comment_inside_a_statement_comes_before_the_one_at_its_end() -> None:
    tokens = [*suppressions._tokens("f(\n  1,  # one\n  2)  # both\n# alone\nx = 1  # two")]

    assert [([*lines], text) for lines, text in tokens] == [
        ([2], "# one"),
        ([1, 2, 3], "# both"),
        ([4], "# alone"),
        ([5], "# two"),
    ]


def test_a_comment_about_recompiles_includes_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "limited.py").write_text(
        "import torch\n"
        "torch._dynamo.config.recompile_limit = 1\n"
        "def f(x, n):\n"
        f"    return x * n{IGNORE.format('recompile', 'n takes few values')}\n"
        "f.example_inputs = [(torch.ones(3), n) for n in (1.5, 2.5, 3.5)]\n"
    )
    monkeypatch.chdir(tmp_path)
    with torch._dynamo.config.patch(recompile_limit=1):
        assert main(["limited.py::f", "--dynamic", "false", "--json", "report.json"]) == 0
    (case,) = json.loads((tmp_path / "report.json").read_text())["cases"]
    assert [known["finding"]["kind"] for known in case["known"]] == ["recompile-limit"]
