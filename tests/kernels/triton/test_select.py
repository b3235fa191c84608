"""Thresholds and cutoffs of the Triton kernels equal the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import select as reference
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import prefixes, select
from tests.kernels.triton.rows import DTYPES, KINDS, normal


def on_device(inputs: SelectionInputs, device: str) -> SelectionInputs:
    def moved(tensor: Any) -> Any:
        return None if tensor is None else tensor.to(device)

    ranges = None if inputs.ranges is None else tuple(map(moved, inputs.ranges))
    return inputs._replace(
        bias=inputs.bias.to(device),
        allowed=moved(inputs.allowed),
        lengths=moved(inputs.lengths),
        ranges=ranges,
    )


def some_ranges(batch: int, queries: int, keys: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns ranges of which some are inverted or reach past the ends; the ends with gaps."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(-5, keys + 5, (batch, 1, queries, 1), generator=generator).int()
    end = torch.randint(-5, keys + 9, (batch, 1, queries, 2), generator=generator)
    return start, end[..., 1:]


def check(
    device: str,
    bias: Tensor,
    window: int,
    shape: tuple[int, int, int],
    *,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    ranges: tuple[Tensor, Tensor] | None = None,
    floor: float | None = None,
    **positions: Any,
) -> None:
    floor = torch.finfo(bias.dtype).min if floor is None else floor
    place = Positions(positions.pop("query_len", shape[2]), bias.shape[3], **positions)
    inputs = SelectionInputs(bias, mask, lengths, place, floor, ranges)
    wanted = reference.select(inputs, shape, window)
    found = select.select(on_device(inputs, device), shape, window)
    torch.testing.assert_close(found[0].cpu(), wanted[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found[0].cpu().signbit() & (wanted[0] == 0), torch.zeros(shape).bool())
    assert torch.equal(found[1].cpu(), wanted[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, 300).to(dtype)
    mask = normal(1, 1, 1, 300, seed=5) > -0.5
    for window in (1, 20, 150, 300):
        check(device, bias, window, (1, 2, 1))
    check(device, bias, 40, (1, 2, 1), mask=mask, floor=0.0)
    check(device, bias, 40, (1, 2, 1), mask=mask, sinks=3, local=9, query_len=1)


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", ["rounded", "special"])
def test_positions(kind: str, is_causal: bool, local: int, sinks: int, device: str) -> None:
    bias = KINDS[kind](2, 1, 4, 40)
    always = {"is_causal": is_causal, "local": local, "sinks": sinks}
    for window in {max(1, sinks + local), 6}:
        check(device, bias, window, (2, 1, 4), **always)
        check(device, bias[:, :, :1], window, (2, 1, 4), **always)
        lengths = torch.tensor([3, 37])[:, None, None, None]
        mask = normal(2, 2, 1, 40) > 0
        check(device, bias, window, (2, 2, 4), mask=mask, lengths=lengths, **always)


@pytest.mark.parametrize("length", [-1, 0, 1, 39, 40, 60])
def test_lengths(length: int, device: str) -> None:
    for dtype in (torch.int64, torch.int32):
        lengths = torch.tensor([length], dtype=dtype)[:, None, None, None]
        check(device, normal(1, 1, 3, 40), 5, (1, 1, 3), lengths=lengths)
        check(device, normal(1, 1, 3, 40), 5, (1, 1, 3), lengths=lengths, is_causal=True, local=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["rounded", "special"])
def test_ranges(kind: str, dtype: torch.dtype, device: str) -> None:
    bias = KINDS[kind](2, 2, 12, 40).to(dtype)
    mask = normal(2, 1, 1, 40, seed=3) > -0.5
    for always in ({}, {"sinks": 2}, {"sinks": 1, "local": 3}):
        for seed, window in enumerate((4, 9)):
            ranges = some_ranges(2, 12, 40, seed)
            check(device, bias, window, (2, 2, 12), ranges=ranges, **always)
            check(device, bias[:, :, :1], window, (2, 2, 12), ranges=ranges, mask=mask, **always)
    one = torch.tensor([7])[:, None, None, None], torch.tensor([2**40])[:, None, None, None]
    check(device, bias, 5, (2, 2, 12), ranges=one, floor=0.0)
    check(device, bias[:, :, :1], 5, (2, 2, 1), ranges=one, query_len=12)


def test_sizes(device: str) -> None:
    check(device, normal(1, 1, 0, 5), 3, (1, 1, 0))
    check(device, normal(1, 1, 2, 1), 3, (1, 1, 2))
    check(device, normal(1, 2, 9, 4), 3, (1, 2, 9), is_causal=True)
    check(device, normal(1, 1, 2, 64), 64, (1, 1, 2))


@pytest.mark.parametrize("kind", ["normal", "rounded", "special", "relu", "-inf", "denormal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_prefixes(
    dtype: torch.dtype, kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Causal selections of a bias per key, followed from every eighth query."""
    monkeypatch.setattr(prefixes, "STEP", 8)
    bias = KINDS[kind](1, 2, 1, 37).to(dtype)
    mask = normal(1, 1, 1, 37, seed=6) > -0.7
    check(device, bias, 9, (1, 2, 37), is_causal=True)
    check(device, bias, 5, (1, 2, 40), is_causal=True, sinks=2, mask=mask)
    lengths = torch.tensor([11])[:, None, None, None]
    check(device, bias, 5, (1, 2, 20), is_causal=True, sinks=5, lengths=lengths)
    check(device, bias, 40, (1, 2, 20), is_causal=True, mask=mask)


@pytest.mark.parametrize("kind", ["normal", "rounded", "special", "relu", "-inf"])
def test_prefixes_before_local_keys(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With forbidden keys among the local ones, there is room for more keys or for fewer."""
    monkeypatch.setattr(prefixes, "STEP", 8)
    bias = KINDS[kind](1, 1, 1, 37)
    mask = normal(1, 1, 1, 37, seed=6) > 0.3
    check(device, bias, 9, (1, 1, 37), is_causal=True, local=1)
    check(device, bias, 9, (1, 1, 20), is_causal=True, local=6, mask=mask)
    check(device, bias, 9, (1, 1, 40), is_causal=True, local=6, sinks=2, mask=mask)
    check(device, bias, 6, (1, 1, 37), is_causal=True, local=3, sinks=2)
    lengths = torch.tensor([11])[:, None, None, None]
    check(device, bias, 8, (1, 1, 20), is_causal=True, sinks=5, local=3, lengths=lengths)
    check(device, bias, 2**40 + 3, (1, 1, 37), is_causal=True, local=2**40, mask=mask)
    bias = KINDS[kind](1, 1, 1, 37).bfloat16()
    check(device, bias, 12, (1, 1, 37), is_causal=True, local=5, mask=mask, floor=0.0)
