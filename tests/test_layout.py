"""An op has the same stem in every folder: contract, reference kernel, test and benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

import dmask.ops
from benchmarks import ops as benchmarks
from dmask.samples import SAMPLES

ROOT = Path(__file__).parent.parent
SHARED = {"attention", "dispatch", "spec", "strategy"}
"""Files of `dmask/contracts/` that are not about one op."""
WITHOUT_KERNEL = {"create_mask"}
"""Ops that only choose among the kernels of other ops."""


def stems(folder: str) -> set[str]:
    return {file.stem for file in (ROOT / folder).glob("*.py")} - {"__init__"}


CONTRACTS = sorted(stems("dmask/contracts") - SHARED)


def test_every_contract_is_in_the_table_of_ops() -> None:
    imported = {name for name in CONTRACTS if hasattr(dmask.ops, name)}
    assert imported == set(CONTRACTS)
    assert stems("dmask/contracts") >= SHARED


@pytest.mark.parametrize("stem", CONTRACTS)
def test_every_contract_has_a_test_a_benchmark_and_a_reference_kernel(stem: str) -> None:
    files = [f"tests/ops/test_{stem}.py", f"benchmarks/ops/{stem}.py"]
    if stem not in WITHOUT_KERNEL:
        files.append(f"dmask/kernels/reference/{stem}.py")
    missing = [file for file in files if not (ROOT / file).is_file()]
    assert not missing


def test_every_benchmark_has_a_contract() -> None:
    assert list(benchmarks.STEMS) == CONTRACTS


def test_every_test_of_one_op_has_a_contract() -> None:
    found = {stem.removeprefix("test_") for stem in stems("tests/ops") if stem.startswith("test_")}
    assert found - {"all", "strategy"} == set(CONTRACTS)


def test_kernels_of_other_backends_have_a_reference() -> None:
    """Files of a backend that share the stem of a contract need a reference."""
    backends = [folder for folder in (ROOT / "dmask" / "kernels").iterdir() if folder.is_dir()]
    assert {"cpu", "reference"} <= {folder.name for folder in backends}
    reference = stems("dmask/kernels/reference")
    for backend in backends:
        shared = stems(str(backend.relative_to(ROOT))) & set(CONTRACTS)
        assert shared <= reference, backend


def test_samples_are_listed_in_order() -> None:
    assert list(SAMPLES) == list(dmask.ops.op_names())
