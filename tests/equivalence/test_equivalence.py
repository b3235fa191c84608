"""The equivalence suites, on a sample of their matrix."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType

import pytest
import torch

from benchmarks import backward_equivalence, equivalence, forward_equivalence, grad_equivalence
from benchmarks.equivalence import Case, Inputs, matrix

SUITES = [forward_equivalence, backward_equivalence, grad_equivalence]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__.split(".")[-1])
def test_quick(suite: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.main(["--quick"]) == 0
    assert "0 differences" in capsys.readouterr().out


def test_the_sample_has_every_value_of_every_axis() -> None:
    whole, sample = list(matrix(quick=False)), list(matrix(quick=True))
    assert len(whole) > 10_000
    for field in fields(Case):
        assert {getattr(case, field.name) for case in sample} == {
            getattr(case, field.name) for case in whole
        }


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__.split(".")[-1])
def test_each_suite_finds_a_difference(
    suite: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the old path keeps one more key, every suite exits with a non-zero status."""
    inlined = equivalence.inlined_mask

    def wrong(case: Case, inputs: Inputs) -> torch.Tensor | None:
        mask = inlined(case, inputs)
        if mask is not None:
            mask = mask.clone()
            mask[0, 0, 0, 0] ^= True
        return mask

    monkeypatch.setattr(equivalence, "inlined_mask", wrong)
    assert suite.main(["--quick"]) == 1
    assert "differ" in capsys.readouterr().err
