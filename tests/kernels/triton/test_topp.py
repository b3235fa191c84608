"""Top-p masks of the Triton kernel: equal to the reference where no mass is close to `p`, and
otherwise prefixes of the ranking that just reach it.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dmask.kernels.reference import topp as reference
from dmask.kernels.reference.ranking import best_keys, eligible_keys, masked_scores
from dmask.kernels.triton import layout, topp
from tests.kernels.triton.rows import DTYPES, KINDS, normal

LOWEST = torch.finfo(torch.float32).min


def check(
    device: str,
    bias: Tensor,
    p: float,
    *,
    mask: Tensor | None = None,
    floor: float = LOWEST,
    window: int | None = None,
) -> None:
    keys = torch.broadcast_shapes(bias.shape, () if mask is None else mask.shape)[3]
    bias = bias.expand(-1, -1, -1, keys)
    there = None if mask is None else mask.to(device)
    found = topp.topp_mask(bias.to(device), there, floor, p, window)
    assert found.is_contiguous()
    check_mass(found.cpu(), bias, mask, floor, p, window)
    # Masses that reach `p` exactly are 1e-12 above what they have to reach.
    clear = margins(bias, mask, floor, p) > 2e-13
    wanted = reference.topp_mask(bias, mask, floor, p, window)
    assert torch.equal(found.cpu()[clear], wanted[clear])
    assert clear.all() or p > 0.99


def ranked_mass(bias: Tensor, mask: Tensor | None, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the keys of each row as they rank, which are eligible, and their softmax."""
    eligible = eligible_keys(bias, mask, floor)
    values, keys = best_keys(masked_scores(bias, eligible, floor), bias.shape[-1], "lowest")
    there = eligible.gather(-1, keys)
    return keys, there, values.double().masked_fill(~there, -torch.inf).softmax(dim=-1)


def margins(bias: Tensor, mask: Tensor | None, floor: float, p: float) -> Tensor:
    """Returns how far the mass of any prefix of a row's ranking is from what it has to reach."""
    _, _, mass = ranked_mass(bias, mask, floor)
    goal = p - 1e-12 if p < 1 else math.inf
    far = (mass.cumsum(dim=-1) - goal).abs().nan_to_num(nan=math.inf)
    return torch.nn.functional.pad(far, (0, 1), value=math.inf).amin(dim=-1)


def check_mass(
    found: Tensor, bias: Tensor, mask: Tensor | None, floor: float, p: float, window: int | None
) -> None:
    """Checks that each row keeps a prefix of its ranking, which is minimal and reaches `p`."""
    keys, there, mass = ranked_mass(bias, mask, floor)
    kept = found.gather(-1, keys)
    count = kept.sum(dim=-1)
    place = torch.arange(kept.shape[-1])
    assert torch.equal(kept, place < count[..., None])
    assert not (kept & ~there).any()
    most = len(place) if window is None else window
    full = count == there.sum(dim=-1).clamp(max=most)
    total = torch.where(kept, mass, 0.0).sum(dim=-1)
    assert (full | (total >= p - 1e-11)).all()
    last = mass.gather(-1, (count[..., None] - 1).clamp(min=0))[..., 0] if len(place) else total
    assert (full | (total - last < p)).all() or p == 1
    assert (count <= most).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_scores(dtype: torch.dtype, kind: str, device: str) -> None:
    bias = KINDS[kind](1, 2, 1, 300).to(dtype)
    mask = normal(1, 1, 1, 300, seed=5) > -0.5
    floor = torch.finfo(dtype).min
    check(device, bias, 0.9, floor=floor)
    check(device, bias, 1.0, floor=floor, window=40)
    check(device, bias, 0.5, floor=floor, mask=mask)
    check(device, bias, 0.7, floor=0.0, mask=mask, window=30)
    check(device, bias, 0.3, floor=-torch.inf)


@pytest.mark.parametrize("scale", [1e-30, 0.01, 3.0, 10.0, 100.0, 1e5, 1e37])
@pytest.mark.parametrize("p", [1e-13, 0.1, 0.9, 0.999999, 1 - 1e-10])
def test_spreads(p: float, scale: float, device: str) -> None:
    """From rows of equal weights to rows of which one key has all."""
    check(device, normal(1, 1, 4, 130) * scale, p)


@pytest.mark.parametrize("keys", [1, 3, 4, 7, 10, 48, 64])
def test_masses_that_reach_p_exactly(keys: int, device: str) -> None:
    """Equal scores have a mass of one over their number each, and count as reaching `p`."""
    bias = torch.full((1, 1, 1, keys), -3.25, device=device)
    for count in {1, keys // 2, max(1, keys - 1)} - {0, keys}:
        for p in (count / keys, count / keys + 5e-13):
            kept = topp.topp_mask(bias, None, LOWEST, p, None)
            assert kept.sum() == count
            assert kept[..., :count].all()


def test_few_scores_share_the_mass_that_decides(device: str) -> None:
    """Masses in float32 cannot tell these scores apart; those in float64 do."""
    bias = torch.cat([torch.full((1, 1, 1, 3), 12.0), normal(1, 1, 1, 200) * 1e-3], dim=-1)
    _, _, mass = ranked_mass(bias, None, LOWEST)
    sums = mass.cumsum(dim=-1).flatten()
    for rank in (3, 57, 201):
        p = float(sums[rank] + sums[rank - 1]) / 2
        check(device, bias, p)
        assert topp.topp_mask(bias.to(device), None, LOWEST, p, None).sum() == rank + 1


@pytest.mark.parametrize("rank", [0, 10, 100, 170])
def test_masses_are_exact(rank: int, device: str) -> None:
    bias = normal(1, 1, 1, 200) * 2
    _, _, mass = ranked_mass(bias, None, LOWEST)
    p = float(mass.cumsum(dim=-1)[..., rank])
    for more, count in ((-1e-11, rank + 1), (1e-11, rank + 2)):
        assert topp.topp_mask(bias.to(device), None, LOWEST, p + more, None).sum() == count


def test_the_code_between_zero_and_the_largest_denormal_below(device: str) -> None:
    bias = torch.tensor([0.0, -0.0, 0.0, *[-1.4e-45] * 5, *[-2.8e-45] * 2])
    for some in (bias, bias[:8], bias[:4], bias - 1.4e-45):
        for p in (0.1, 0.32, 0.48, 0.77, 0.96):
            check(device, some.expand(1, 1, 1, -1), p)


@pytest.mark.parametrize("floor", [-0.0, 0.5, -0.25, torch.inf])
def test_floors(floor: float, device: str) -> None:
    check(device, KINDS["special"](1, 1, 2, 64), 0.7, floor=floor)
    check(device, normal(1, 1, 2, 64), 0.7, floor=floor)


@pytest.mark.parametrize("keys", [0, 1, 2, 31, 33, 64, 1000])
def test_sizes(keys: int, device: str) -> None:
    for p, window in ((0.001, None), (0.4, keys + 5), (1.0, None), (0.9, 1)):
        check(device, normal(1, 1, 2, keys), p, window=window)


def test_rows_that_are_long_or_missing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(device, normal(2, 0, 3, 8), 0.5)
    monkeypatch.setattr(layout, "MAX_KEYS", 32)
    check(device, normal(1, 1, 2, 40), 0.5)


def test_strides(device: str) -> None:
    mask = normal(2, 1, 1, 40, seed=7) > 0
    check(device, normal(2, 2, 40, 3).transpose(-1, -2), 0.3, mask=mask)
    check(device, normal(2, 1, 1, 40).expand(2, 3, 2, 40), 0.3)
    check(device, normal(1, 2, 1, 1).expand(1, 2, 1, 40), 0.33, mask=mask)
    check(device, normal(2, 2, 3, 80)[..., ::2], 0.3, mask=mask.expand(2, 2, 3, 40))
    check(device, normal(1, 1, 3, 40), 0.3, mask=normal(2, 3, 1, 40) > 0)


@pytest.mark.usefixtures("three_rows_each")
def test_neighboring_rows(device: str) -> None:
    """A program takes several rows, each with a mass of its own."""
    rows = torch.cat([normal(1, 1, 3, 50), normal(1, 1, 2, 50) * 1e9, -normal(1, 1, 3, 50)], dim=2)
    mask = normal(1, 1, 8, 50, seed=3) > torch.linspace(-2, 3, 8)[:, None]
    check(device, rows, 0.4, mask=mask)
    check(device, rows, 0.9, mask=mask, window=7)
