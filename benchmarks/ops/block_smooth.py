"""`block_smooth`: whole blocks of a finished mask."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

import dmask
from benchmarks.ops import Case, Inputs

BLOCK = 64


def cases(inputs: Inputs) -> Iterator[Case]:
    kept = inputs.scores() > 0
    yield Case(
        f"blocks of {BLOCK}",
        "sums, repeat_interleave",
        lambda: dmask.block_smooth(kept, BLOCK),
        lambda: smoothed(kept),
    )


def smoothed(mask: Tensor) -> Tensor:
    """Keeps the blocks in which more than half of the keys are kept."""
    count = mask.unflatten(-1, (-1, BLOCK)).sum(dim=-1)
    return (2 * count > BLOCK).repeat_interleave(BLOCK, dim=-1)
