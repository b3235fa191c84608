"""What the Triton kernels read from a selection equals the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dmask.kernels.reference import blocks as reference_blocks
from dmask.kernels.reference import indices as reference_indices
from dmask.kernels.reference import select
from dmask.kernels.reference.select import Positions, SelectionInputs
from dmask.kernels.triton import blocks, indices
from tests.kernels.triton.rows import DTYPES, KINDS, normal

LENGTHS = torch.tensor([5, 40])[:, None, None, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["rounded", "special"])
@pytest.mark.parametrize(
    ("masked", "lengths", "always"),
    [
        (False, None, {}),
        (True, None, {"is_causal": True, "local": 2, "sinks": 1}),
        (True, LENGTHS, {}),
        (False, LENGTHS, {"is_causal": True, "local": 3}),
    ],
)
def test_kept(
    dtype: torch.dtype, kind: str, masked: bool, lengths: Any, always: Any, device: str
) -> None:
    floor = -0.5 if masked else torch.finfo(dtype).min
    place = Positions(11, 37, **always)
    for bias in (KINDS[kind](2, 2, 11, 37).to(dtype), KINDS[kind](2, 1, 1, 37).to(dtype)):
        mask = normal(2, 2, 1, 37) > -0.5 if masked else None
        inputs = SelectionInputs(bias, mask, lengths, place, floor)
        bounds = select.select(inputs, (2, 2, 11), 7)
        tensors = (None if t is None else t.to(device) for t in (bias, mask, lengths))
        there = SelectionInputs(*tensors, place, floor)  # type: ignore[arg-type]
        sent = bounds[0].to(device), bounds[1].to(device)
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
