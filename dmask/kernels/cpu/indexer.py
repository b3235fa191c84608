"""The best keys of scores that the indexer made, on the CPU."""

from __future__ import annotations

from torch import Tensor

from dmask.kernels.cpu.indices import kept_indices
from dmask.kernels.cpu.select import select
from dmask.kernels.reference.select import SelectionInputs


def best_indices(inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int) -> Tensor:
    """Same as `reference.indexer.best_indices`."""
    return kept_indices(inputs, *select(inputs, shape, window_size), window_size)
