"""The benchmarks compare equal results, and their command prints every op."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import ops
from benchmarks.timing import Call, Timed, compare

SMALL = ops.Inputs(batch=2, query_len=128, key_len=256, window_size=64)


def called_once(calls: Mapping[str, Call], baseline: str, **options: object) -> dict[str, Timed]:
    """Replaces `compare`: runs every call without measuring it."""
    for call in calls.values():
        call()
    return {name: Timed(0.5, 0.25) for name in calls}


@pytest.mark.parametrize("stem", ops.STEMS)
def test_the_alternative_returns_the_same(stem: str) -> None:
    cases = list(ops.cases(stem, SMALL))
    assert cases
    for case in cases:
        got, expected = case.dmask(), case.inlined()
        assert type(got) is type(expected)
        torch.testing.assert_close(got, expected, rtol=0, atol=0, msg=lambda m: f"{case.name}: {m}")  # noqa: B023


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "compare", called_once)
    monkeypatch.setattr(command, "INPUTS", SMALL)


@pytest.mark.usefixtures("quick")
def test_the_command_prints_one_table_of_all_ops(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    assert command.main(["--only", "ops", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    for stem in ops.STEMS:
        assert f"\n{stem} " in printed
    assert "2.0x" in printed
    figures = json.loads(file.read_text())["ops"]
    assert {name.partition(",")[0] for name in figures} == set(ops.STEMS)


@pytest.mark.usefixtures("quick")
def test_the_command_measures_one_op(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--op", "relu"]) == 0
    printed = capsys.readouterr().out
    assert "\nrelu " in printed
    assert "\ntopk " not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "nothing"], "invalid choice: 'nothing'"),
        (["--only", "memory", "--op", "relu"], "argument --op: requires --only ops"),
        (["--only", "memory", "--device", "cuda"], "argument --only: memory cannot measure cuda"),
    ],
)
def test_wrong_options_are_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_compare_returns_ratios_of_interleaved_calls() -> None:
    order: list[str] = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timed = compare(calls, "a", rounds=7, block_seconds=0)
    assert timed["a"].ratio == 1
    assert timed["b"].ratio > 0
    assert "".join(order[-14:]) == "ab" * 7
