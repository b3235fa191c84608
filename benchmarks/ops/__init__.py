"""Measures each op against the code that users write without it.

There is one file per contract, with the same name. The `cases` of each file yields pairs of
functions: a call to dmask, and a readable alternative that returns the same result.
`tests/test_benchmarks.py` checks that the results are equal.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import paths
from benchmarks.timing import Timed, compare, finished

STEMS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""The ops that have a benchmark."""

Result = Tensor | tuple[Tensor, ...]


class Case(NamedTuple):
    """A call to dmask and an alternative with the same result."""

    name: str
    alternative: str
    """What the alternative does, in a few words."""
    dmask: Callable[[], Result]
    inlined: Callable[[], Result]


@dataclass(frozen=True)
class Inputs:
    """Random tensors of the given sizes, the same in every run."""

    batch: int = 1
    heads: int = 2
    query_len: int = 512
    key_len: int = 4096
    window_size: int = 1024
    device: str = "cpu"

    def scores(self, query_len: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Returns normally distributed scores `[B, H, query_len, Lk]`."""
        queries = self.query_len if query_len is None else query_len
        generator = torch.Generator().manual_seed(0)
        scores = torch.randn(self.batch, self.heads, queries, self.key_len, generator=generator)
        return scores.to(self.device, dtype)

    def padding(self) -> Tensor:
        """Returns a mask `[B, Lk]` that forbids the last eighth of the keys."""
        allowed = torch.arange(self.key_len, device=self.device) < self.key_len * 7 // 8
        return allowed.expand(self.batch, self.key_len).contiguous()

    def causal(self) -> Tensor:
        """Returns the bottom-right aligned causal mask `[1, 1, Lq, Lk]`."""
        return paths.causal(self.query_len, self.key_len).to(self.device)


class Line(NamedTuple):
    """A measured case."""

    stem: str
    case: Case
    dmask: Timed
    inlined: Timed


def cases(stem: str, inputs: Inputs) -> Iterator[Case]:
    """Returns the cases of one op."""
    found: Iterator[Case] = import_module(f"benchmarks.ops.{stem}").cases(inputs)
    return found


def measure(stems: Iterable[str], inputs: Inputs) -> Iterator[Line]:
    for stem in stems:
        for case in cases(stem, inputs):
            calls = {
                "dmask": finished(case.dmask, inputs.device),
                "inlined": finished(case.inlined, inputs.device),
            }
            timed = compare(calls, "inlined", budget_seconds=4)
            yield Line(stem, case, timed["dmask"], timed["inlined"])
