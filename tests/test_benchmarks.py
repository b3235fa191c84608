"""The benchmarks compare equal results, and their command prints every op."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import dmask
from benchmarks import __main__ as command
from benchmarks import conversions, cuda_sparse, decode, ops
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


def test_decode_steps_and_conversions_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "STEPS", 30)
    assert command.main(["--only", "decode"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("select(...).to_indices()") == len(decode.SHAPES)
    monkeypatch.setattr(conversions, "compare", called_once)
    monkeypatch.setattr(conversions, "QUERIES", (256,))
    monkeypatch.setattr(conversions, "INDICES", (64, 8))
    monkeypatch.setattr(conversions, "_create_block_mask", create_block_mask)
    assert command.main(["--only", "conversions"]) == 0
    printed = capsys.readouterr().out
    for name in ("to_block_mask", "to_mask", "to_indices", "mask_from_indices"):
        assert f"\n{name}" in printed


def test_both_ways_to_a_block_mask_give_the_same() -> None:
    bias = torch.randn(1, 2, 1, 256, generator=torch.Generator().manual_seed(0))
    selected = dmask.select(bias, 64, is_causal=True, query_len=256)
    found = selected.to_block_mask()
    wanted = create_block_mask(selected.mask_mod(), 1, 2, 256, 256, device="cpu")
    assert torch.equal(found.to_dense(), wanted.to_dense())
    assert torch.equal(found.full_kv_num_blocks, wanted.full_kv_num_blocks)


def test_the_sparse_benchmark_runs_on_small_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    small = cuda_sparse.Decode(2, 300, 0.5, heads=4, key_heads=2, head_dim=16, window_size=32)
    call = cuda_sparse.Index(40, 200, heads=2, head_dim=16, window_size=32)
    monkeypatch.setattr(cuda_sparse, "DECODE", (small,))
    monkeypatch.setattr(cuda_sparse, "INDEX", (call,))

    def once(call: Call) -> float:
        call()
        return 0.5

    figures = dict(cuda_sparse.measure("cpu", once))
    assert figures[small.name]["of dense"] == 1
    assert figures[small.name]["difference"] < 0.02  # bfloat16
    assert "both 0.5" in cuda_sparse.line(call.name, figures[call.name])
