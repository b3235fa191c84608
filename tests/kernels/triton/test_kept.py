"""What the Triton kernels read from a selection equals the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dmask.kernels.reference import blocks as reference_blocks
from dmask.kernels.reference import dense as reference_dense
from dmask.kernels.reference import indices as reference_indices
from dmask.kernels.reference import select
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import blocks, dense, indices
from dmask.kernels.triton import select as triton_select
from tests.kernels.triton.rows import DTYPES, KINDS, normal
from tests.kernels.triton.test_select import on_device, some_ranges

LENGTHS = torch.tensor([5, 40])[:, None, None, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["rounded", "special"])
@pytest.mark.parametrize(
    ("masked", "limits", "always"),
    [
        (False, {}, {}),
        (True, {}, {"is_causal": True, "local": 2, "sinks": 1}),
        (True, {"lengths": LENGTHS}, {}),
        (False, {"lengths": LENGTHS}, {"is_causal": True, "local": 3}),
        (True, {"ranges": some_ranges(2, 11, 37)}, {}),
        (False, {"ranges": some_ranges(2, 11, 37)}, {"sinks": 2, "local": 3}),
    ],
)
def test_kept(
    dtype: torch.dtype, kind: str, masked: bool, limits: Any, always: Any, device: str
) -> None:
    floor = -0.5 if masked else torch.finfo(dtype).min
    place = Positions(11, 37, **always)
    for bias in (KINDS[kind](2, 2, 11, 37).to(dtype), KINDS[kind](2, 1, 1, 37).to(dtype)):
        mask = normal(2, 2, 1, 37) > -0.5 if masked else None
        inputs = SelectionInputs(bias, mask, None, place, floor)._replace(**limits)
        bounds = select.select(inputs, (2, 2, 11), 7)
        there = on_device(inputs, device)
        sent = bounds[0].to(device), bounds[1].to(device)
        wanted = reference_dense.kept_mask(inputs, *bounds)
        assert torch.equal(dense.kept_mask(there, *sent).cpu(), wanted)
        for size in ((4, 16), (64, 10)):
            wanted = reference_blocks.kept_blocks(inputs, *bounds, size)
            assert torch.equal(blocks.kept_blocks(there, *sent, size).cpu(), wanted)
        for width in (7, 50):
            wanted = reference_indices.kept_indices(inputs, *bounds, max(width, 7))[..., :width]
            assert torch.equal(indices.kept_indices(there, *sent, width).cpu(), wanted)


def test_nothing(device: str) -> None:
    inputs = SelectionInputs(
        torch.empty(1, 2, 3, 0, device=device), None, None, Positions(3, 0), 0.0
    )
    bounds = (
        torch.full((1, 2, 3), torch.inf, device=device),
        torch.full((1, 2, 3), -1, dtype=torch.int32, device=device),
    )
    assert blocks.kept_blocks(inputs, *bounds, (4, 4)).shape == (1, 2, 1, 0)
    assert (indices.kept_indices(inputs, *bounds, 3) == -1).all()
    assert dense.kept_mask(inputs, *bounds).shape == (1, 2, 3, 0)


def test_lengths_beyond_32_bits(device: str) -> None:
    bias, place = normal(1, 2, 3, 40), Positions(3, 40, is_causal=True)
    for length in (-(2**40) + 5, -(2**31), 2**40 + 5, 0):
        inputs = SelectionInputs(bias, None, torch.tensor([length])[:, None, None, None], place, -9)
        wanted = select.select(inputs, (1, 2, 3), 7)
        there = inputs._replace(bias=bias.to(device), lengths=inputs.lengths.to(device))  # type: ignore[union-attr]
        found = triton_select.select(there, (1, 2, 3), 7)
        assert torch.equal(found[0].cpu(), wanted[0])
        assert torch.equal(found[1].cpu(), wanted[1])


def test_a_threshold_without_a_cutoff(device: str) -> None:
    inputs = SelectionInputs(normal(1, 2, 3, 40), None, None, Positions(3, 40), -9.0)
    bounds = torch.zeros(1, 2, 3), torch.full((1, 2, 3), -1, dtype=torch.int32)
    there = inputs._replace(bias=inputs.bias.to(device))
    found = dense.kept_mask(there, bounds[0].to(device), bounds[1].to(device))
    assert torch.equal(found.cpu(), inputs.bias > 0)


@pytest.mark.parametrize("keys", [37, 64, 2500])
def test_rows_that_are_all_the_same(keys: int, device: str) -> None:
    inputs = SelectionInputs(normal(1, 2, 1, keys), None, None, Positions(20, keys), -1.0)
    bounds = [each.expand(1, 2, 20) for each in select.select(inputs, (1, 2, 1), 7)]
    there = inputs._replace(bias=inputs.bias.to(device))
    sent = bounds[0].to(device), bounds[1].to(device)
    wanted = reference_dense.kept_mask(inputs, *bounds)
    assert torch.equal(dense.kept_mask(there, *sent).cpu(), wanted)
    assert torch.equal(indices.kept_indices(there, *sent, 7).cpu(), indices_of(wanted, 7))


def indices_of(mask: torch.Tensor, width: int) -> torch.Tensor:
    return mask.nonzero()[:, 3].view(*mask.shape[:3], width).int()


@pytest.mark.parametrize("shape", [(1, 2, 3, 40), (1, 1, 20, 1), (1, 2, 3, 0), (0, 1, 2, 3)])
def test_lists(shape: tuple[int, ...], device: str) -> None:
    counts = normal(*shape).mul(2).int().clamp(min=0)
    for whole in (1, 2, 2**40):
        wanted = reference_blocks.block_lists(counts, whole)
        found = blocks.block_lists(counts.to(device), whole)
        for here, there in zip(wanted, found, strict=True):
            assert there.dtype is torch.int32
            assert there.is_contiguous()
            assert torch.equal(there.cpu(), here)
