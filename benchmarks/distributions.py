"""Measures top-k masks for thirteen distributions of scores, relative to the inlined path.

The time of a mask depends on its scores: `torch.topk` is four times faster on sorted or equal rows
than on random ones, a search by value depends on the spread of the scores, and a tie rule depends
on the number of equal scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import geometric_mean
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.paths import create
from benchmarks.timing import Timed, compare
from tests.support.inlined import inlined_path

SHAPE, WINDOW_SIZE = (1, 2, 512, 4096), 1024
DTYPES = (torch.float32, torch.bfloat16)

Shape = tuple[int, ...]


def scores_of(
    name: str, shape: Shape = SHAPE, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Tensor:
    """Returns scores `[..., Lq, Lk]` of a distribution, the same on every call and device."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(shape, generator=generator)
    return DISTRIBUTIONS[name](normal, generator).to(dtype).to(device)


def _sorted(normal: Tensor, generator: torch.Generator, *, descending: bool) -> Tensor:
    return normal.sort(dim=-1, descending=descending).values


def _alternating_scales(normal: Tensor, generator: torch.Generator) -> Tensor:
    """Returns scores where the threshold of a row does not predict that of the next row."""
    rows = torch.arange(normal.shape[-2])[:, None]
    return normal * torch.where(rows % 2 == 0, 1e-4, 1e4)


def _huge_range(normal: Tensor, generator: torch.Generator) -> Tensor:
    """Returns scores of every magnitude between 1e-30 and 1e30."""
    return normal * 10.0 ** (torch.rand(normal.shape, generator=generator) * 60 - 30)


def _mostly_infinite(normal: Tensor, generator: torch.Generator) -> Tensor:
    """Masks nine out of ten keys with -inf, so that fewer remain than fit the window."""
    masked = torch.rand(normal.shape, generator=generator) < 0.9
    return normal.masked_fill(masked, -torch.inf)


def _strided_outliers(normal: Tensor, generator: torch.Generator) -> Tensor:
    """Returns scores where a sample of every 32nd key contains only outliers."""
    outlier = torch.arange(normal.shape[-1]) % 32 == 0
    return torch.where(outlier, normal.abs() * 100, normal)


DISTRIBUTIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "normal": lambda normal, _: normal,
    # A sixth of the keys are above zero, so the window ends inside the plateau.
    "ReLU plateau": lambda normal, _: (normal - 1).relu(),
    "all equal": lambda normal, _: torch.full_like(normal, 0.5),
    "narrow range": lambda normal, _: 1 + normal * 1e-4,
    "ascending": partial(_sorted, descending=False),
    "descending": partial(_sorted, descending=True),
    "alternating scales": _alternating_scales,
    "two values": lambda normal, _: (normal > 0).float(),
    "huge range": _huge_range,
    "mostly -inf": _mostly_infinite,
    "denormal": lambda normal, _: normal * 1e-40,
    "strided outliers": _strided_outliers,
    "softmax": lambda normal, _: (4 * normal).softmax(dim=-1),
}


class Line(NamedTuple):
    """The cost of the masks of one distribution, with each tie rule."""

    distribution: str
    dtype: torch.dtype
    inlined: Timed
    torch: Timed
    lowest: Timed

    @property
    def speedup(self) -> float:
        """How many times faster `tie_break="lowest"` is than the inlined path."""
        return 1 / self.lowest.ratio


def measure() -> Iterator[Line]:
    for name in DISTRIBUTIONS:
        for dtype in DTYPES:
            bias = scores_of(name, dtype=dtype)
            calls = {
                "inlined": partial(inlined_path, bias, None, WINDOW_SIZE),
                "torch": partial(create, bias, None, WINDOW_SIZE, "torch"),
                "lowest": partial(create, bias, None, WINDOW_SIZE, "lowest"),
            }
            timed = compare(calls, "inlined", rounds=15, block_seconds=0, budget_seconds=5)
            yield Line(name, dtype, **timed)


def mean_speedup(lines: list[Line]) -> float:
    return geometric_mean(line.speedup for line in lines)
