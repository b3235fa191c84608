"""Measures what a selection becomes: blocks, indices, masks, and masks of indices.

A bias per key, causal: what a dense mask of `Lq x Lk` would cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

import dmask
from benchmarks.timing import Timed, compare

QUERIES, WINDOW, HEADS = (4096, 8192), 1024, 2
INDICES = 2048, 256
"""Queries (and keys), and indices per query."""


class Line(NamedTuple):
    """A conversion, and what it is compared with."""

    name: str
    other: str
    dmask: Timed
    seconds: float
    """Of the other one."""


def measure() -> Iterator[Line]:
    generator = torch.Generator().manual_seed(0)
    for queries in QUERIES:
        bias = torch.randn(1, HEADS, 1, queries, generator=generator)
        selected = dmask.select(bias, WINDOW, is_causal=True, query_len=queries)
        yield _line(
            f"to_block_mask, {queries} queries",
            "create_block_mask, compiled",
            selected.to_block_mask,
            lambda selected=selected, n=queries: created(selected, n),  # type: ignore[misc]
        )
        full = (1, HEADS, queries, queries)
        for name, call in (("to_mask", selected.to_mask), ("to_indices", selected.to_indices)):
            yield _line(
                f"{name}, {queries} queries",
                "fill a mask",
                call,
                lambda full=full: torch.empty(full, dtype=torch.bool).fill_(True),  # type: ignore[misc]
            )
    queries, width = INDICES
    scores = torch.randn(1, 1, queries, queries, generator=generator)
    chosen = dmask.select(scores, width)
    yield _line(
        "to_indices, a bias per query",
        "select",
        chosen.to_indices,
        lambda: dmask.select(scores, width),
    )
    indices = chosen.to_indices()
    yield _line(
        "mask_from_indices",
        "scatter",
        lambda: dmask.mask_from_indices(indices, queries),
        lambda: scattered(indices, queries),
    )


def _line(name: str, other: str, call: object, alternative: object) -> Line:
    timed = compare({"dmask": call, "other": alternative}, "other", budget_seconds=8)  # type: ignore[dict-item]
    return Line(name, other, timed["dmask"], timed["other"].seconds)


_create_block_mask = torch.compile(create_block_mask)


def created(selected: dmask.Selection, queries: int) -> object:
    """Creates the block mask from the `mask_mod`, as one does without `to_block_mask`."""
    mask_mod = selected.mask_mod()
    return _create_block_mask(mask_mod, 1, HEADS, queries, queries, device="cpu")


def scattered(indices: Tensor, key_len: int) -> Tensor:
    """Creates a mask as models do: their indices are int64, and name a key each."""
    mask = torch.zeros((*indices.shape[:-1], key_len), dtype=torch.bool)
    return mask.scatter_(-1, indices.long(), True)
