"""Top-k masks on the CPU: thirteen distributions of scores, and rows with and without ties."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import dmask
from benchmarks.distributions import DISTRIBUTIONS, scores_of
from dmask.contracts.dispatch import CPU
from dmask.kernels.cpu import search
from dmask.kernels.cpu import topk as cpu
from dmask.kernels.reference import topk as reference
from tests.support.inlined import inlined_path
from tests.support.oracle import oracle_mask
from tests.support.scores import scores

SMALL, LONG = (1, 2, 3, 160), (1, 2, 80, 4096)
"""Few enough entries for a plain loop, but enough long rows for every shortcut of the kernel."""


@pytest.fixture(params=[1, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def floor_of(bias: Tensor) -> float:
    return torch.finfo(bias.dtype).min


def expected_torch(bias: Tensor, mask: Tensor | None, window_size: int) -> Tensor:
    """Returns the mask of the inlined path, without the scores of -inf that it keeps."""
    return inlined_path(bias, mask, window_size) & ~(bias < floor_of(bias))


@pytest.mark.parametrize("dtype", CPU.dtypes)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_small_mask_equals_the_oracle(name: str, dtype: torch.dtype) -> None:
    bias = scores_of(name, SMALL, dtype)
    sizes, heads = (1, *SMALL[2:]), SMALL[1]
    wanted = oracle_mask(bias, None, sizes, 40, floor=floor_of(bias), heads=heads)
    # For so few scores dmask calls PyTorch, so this calls the kernel directly.
    got = {
        rule: cpu.topk_mask(bias, None, 40, floor_of(bias), rule) for rule in ("lowest", "torch")
    }
    assert torch.equal(got["lowest"], wanted)
    assert torch.equal(got["torch"], expected_torch(bias, None, 40))


@pytest.mark.parametrize("dtype", CPU.dtypes)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_large_mask_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    assert LONG[3] >= search.LONG_ROW
    assert LONG[1] * LONG[2] >= cpu.MANY_ROWS
    bias = scores_of(name, LONG, dtype)
    lowest = reference.topk_mask(bias, None, 1024, floor_of(bias), "lowest")
    assert torch.equal(dmask.topk_mask(bias, None, 1024, tie_break="lowest"), lowest)
    assert torch.equal(dmask.topk_mask(bias, None, 1024), expected_torch(bias, None, 1024))
    selection = dmask.select(bias, 1024)
    assert torch.equal(selection.to_mask(), lowest)


# ------------------------------------------------------------------ some rows tie, others do not

ROWS = 320
PATTERNS = {
    "none": lambda row: row < 0,
    "all": lambda row: row >= 0,
    "all but one": lambda row: row != 200,
    "first half": lambda row: row < ROWS // 2,
    "second half": lambda row: row >= ROWS // 2,
    "alternating": lambda row: row % 2 == 0,
    "three of four": lambda row: row % 4 > 0,
    "the last": lambda row: row == ROWS - 1,
}


def mixture(pattern: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Returns rows of distinct scores, with a plateau in the rows that the pattern marks."""
    row = torch.arange(shape[1] * shape[2]).view(1, shape[1], shape[2], 1) % ROWS
    distinct = scores(*shape).argsort(dim=-1).float() / 512 - 0.5
    return torch.where(PATTERNS[pattern](row), (scores(*shape) - 2).relu(), distinct).to(dtype)


def masks_of(shape: tuple[int, ...]) -> list[Tensor | None]:
    batches, heads, queries, keys = shape
    return [
        None,
        torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None],
        scores(*shape).gt(-1),
        scores(batches, 1, 1, keys).gt(-0.5).expand(shape),
        torch.arange(keys).ge(keys - 50).expand(1, heads, 1, keys),
    ]


@pytest.mark.parametrize("dtype", CPU.dtypes)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_some_rows_tie(pattern: str, dtype: torch.dtype, threads: None) -> None:
    shape = (1, 2, ROWS // 2, 256)
    bias = mixture(pattern, shape, dtype)
    for mask in masks_of(shape):
        lowest = reference.topk_mask(bias, mask, 100, floor_of(bias), "lowest")
        assert torch.equal(dmask.topk_mask(bias, mask, 100), inlined_path(bias, mask, 100))
        assert torch.equal(dmask.topk_mask(bias, mask, 100, tie_break="lowest"), lowest)


@pytest.mark.parametrize("pattern", ["all", "three of four", "alternating"])
@pytest.mark.parametrize("bias_shape", [(1, 1, ROWS, 256), (2, 4, 1, 256), (2, 1, ROWS, 256)])
def test_rows_that_tie_are_found_if_the_bias_is_expanded(
    pattern: str, bias_shape: tuple[int, ...]
) -> None:
    bias = mixture(pattern, bias_shape, torch.float32)
    # With a mask of the full shape, rows that share a row of the bias still differ.
    mask = scores(2, 4, ROWS, 256).gt(-2.5)
    assert torch.equal(dmask.topk_mask(bias, mask, 100), inlined_path(bias, mask, 100))
    got = dmask.topk_mask(bias.expand(2, 4, ROWS, 256), None, 100)
    assert torch.equal(got, inlined_path(bias.expand(2, 4, ROWS, 256), None, 100))


@pytest.mark.parametrize("dtype", CPU.dtypes)
def test_ties_of_nan_and_signed_zeros(dtype: torch.dtype, threads: None) -> None:
    bias = scores(1, 2, 160, 256).round()
    zeros, nans = bias == 0, scores(1, 2, 160, 256).flip(-1) > 1
    bias[zeros & (scores(1, 2, 160, 256).flip(-2) > 0)] = -0.0
    signed = torch.where(scores(1, 2, 160, 256) > 0, torch.nan, -torch.tensor(torch.nan))
    with_nan = torch.where(nans, signed, bias).to(dtype)
    assert with_nan[nans].isnan().all()
    assert with_nan[nans].signbit().any()
    for window_size in (10, 100, 200):  # the window ends among NaN, zeros or negative numbers
        for scores_ in (bias.to(dtype), with_nan):
            lowest = reference.topk_mask(scores_, None, window_size, floor_of(scores_), "lowest")
            got = dmask.topk_mask(scores_, None, window_size)
            assert torch.equal(got, inlined_path(scores_, None, window_size))
            got = dmask.topk_mask(scores_, None, window_size, tie_break="lowest")
            assert torch.equal(got, lowest)


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("none", []),
        ("the last", [(1, 256)]),
        ("alternating", [(ROWS // 2, 256)]),
        ("all but one", [(1, 2, ROWS // 2, 256)]),
        ("all", [(1, 2, ROWS // 2, 256)]),
    ],
)
def test_torch_topk_runs_on_rows_that_tie_or_on_all(
    pattern: str, asked: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    picked = cpu._picked_by_torch

    def spy(scores: Tensor, *args: object) -> Tensor:
        shapes.append(tuple(scores.shape))
        return picked(scores, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(cpu, "_picked_by_torch", spy)
    bias = mixture(pattern, (1, 2, ROWS // 2, 256), torch.float32)
    dmask.topk_mask(bias, None, 100)
    assert shapes == asked
    dmask.topk_mask(bias, None, 100, tie_break="lowest")
    assert shapes == asked


def test_a_plateau_kept_or_dropped_whole_is_not_a_tie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "_picked_by_torch", lambda *args: pytest.fail("torch.topk was called"))
    plateau = torch.full((1, 2, 160, 256), -1.0)
    plateau[..., :50] = scores(1, 2, 160, 50).abs()
    assert dmask.topk_mask(plateau, None, 50).sum() == 2 * 160 * 50  # the window ends before it
    assert dmask.topk_mask(plateau, None, 100, min_dtype=-1.0).sum() == 2 * 160 * 50  # the floor
    assert dmask.topk_mask(plateau, plateau < 0, 206).sum() == 2 * 160 * 206  # all of it


def test_the_sample_of_rows() -> None:
    assert len(cpu._sample(cpu.MANY_ROWS - 1)) == 0
    for count in (cpu.MANY_ROWS, 1000, 10**6):
        sample = cpu._sample(count)
        assert len(set(sample.tolist())) == len(sample) == min(32, count // 32)
        assert sample.min() >= 0
        assert sample.max() < count
        assert 0 < (sample % 2).sum() < len(sample)  # not in step with alternating rows
