"""One selection in readable PyTorch: which keys a row sees by position, and which of them it keeps.

Everything here works element by element on indices that broadcast against each other: on whole
ranges `[B, 1, Lq, 1]` and `[1, 1, 1, Lk]`, or on the four numbers that FlexAttention hands to a
`mask_mod`. A row's selection is two numbers, `threshold` and `cutoff`, so that a compiler can fuse
`kept` into whatever consumes a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dmask.kernels import reference

Index = Any
"""A tensor or a NumPy array of indices, or of flags about them."""

# Rows are looked at side by side as long as a dense mask of them has no more entries than this.
CHUNK_ENTRIES = 2**22


class Positions(NamedTuple):
    """What a row sees and always keeps because of where it stands.

    `length`, where given, is how many keys its sequence has: the others are padding on the right.
    Indices may be tensors or NumPy arrays.
    """

    query_len: int
    key_len: int
    is_causal: bool = False
    sinks: int = 0
    local: int = 0

    def by_row(self) -> bool:
        """Whether one row differs from the next by these."""
        return self.is_causal or self.local > 0

    def own(self, query: Index, length: Index | None) -> Index:
        """The key at the position of a row, aligned bottom-right, or the last one before it."""
        own = query + (self.key_len - self.query_len)
        return own if length is None else own - (own + 1 - length).clip(min=0)

    def sees(self, query: Index, key: Index, length: Index | None) -> Index | None:
        """Whether a row may see a key; `None` where every row sees every key."""
        if self.is_causal:
            return key <= self.own(query, length)
        return None if length is None else key < length

    def always(self, query: Index, key: Index, length: Index | None) -> Index | None:
        """Whether a row keeps a key whatever its score; `None` where it never does."""
        if not self.local:
            return key < self.sinks if self.sinks else None
        own = self.own(query, length)
        return (key < self.sinks) | ((key > own - self.local) & (key <= own))


class Rows(NamedTuple):
    """The scores of all rows and what restricts them. The tensors broadcast to `[B, H, Lq, Lk]`."""

    bias: Tensor
    allowed: Tensor | None
    lengths: Tensor | None
    """`[B|1, 1, 1, 1]`"""
    positions: Positions
    floor: float

    def cut(self, queries: slice) -> Rows:
        """The rows of some queries."""
        bias = self.bias if self.bias.shape[2] == 1 else self.bias[:, :, queries]
        allowed = self.allowed
        if allowed is not None and allowed.shape[2] != 1:
            allowed = allowed[:, :, queries]
        return self._replace(bias=bias, allowed=allowed)

    def permits(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Which keys are allowed: all restrictions together."""
        sees: Tensor | None = self.positions.sees(query, key, self.lengths)
        if sees is None or self.allowed is None:
            return self.allowed if sees is None else sees
        return sees & self.allowed


def keeps(rows: Rows, threshold: Tensor, cutoff: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Which keys a selection keeps: the rule, element by element.

    NaN is above every number and equal to itself. With a cutoff of -1 a row keeps nothing by its
    scores; its threshold is infinite.
    """
    score = rows.bias
    early = key <= cutoff
    nan = (score != score) & (early | ((threshold == threshold) & (cutoff >= 0)))
    kept = (score > threshold) | ((score == threshold) & early) | nan
    always = rows.positions.always(query, key, rows.lengths)
    if always is not None:
        kept = kept | (always & ~(score <= rows.floor))
    permitted = rows.permits(query, key)
    return kept if permitted is None else kept & permitted


def select(rows: Rows, shape: tuple[int, int, int], window_size: int) -> tuple[Tensor, Tensor]:
    """The `threshold` and `cutoff` of every row `[B, H, Lq]`: in the dtype of the bias, and int32.

    A row that keeps nothing by its scores has infinity and -1.
    """
    threshold = rows.bias.new_empty(shape)
    cutoff = torch.empty(shape, dtype=torch.int32, device=rows.bias.device)
    for queries, query, key in chunks(shape, rows):
        found = _select(rows.cut(queries), query, key, window_size)
        threshold[:, :, queries], cutoff[:, :, queries] = found
    return threshold, cutoff


def _select(rows: Rows, query: Tensor, key: Tensor, window_size: int) -> tuple[Tensor, Tensor]:
    eligible = ~(rows.bias <= rows.floor)
    permitted = rows.permits(query, key)
    if permitted is not None:
        eligible = eligible & permitted
    budget = torch.tensor(window_size, device=key.device)
    always = rows.positions.always(query, key, rows.lengths)
    if always is not None:
        budget = budget - (eligible & always).sum(dim=-1, keepdim=True)
        eligible = eligible & ~always
    kept = eligible.sum(dim=-1, keepdim=True).minimum(budget)
    last = (kept - 1).clamp(min=0)
    scores = reference.masked_scores(rows.bias, eligible, rows.floor)
    values, keys = reference.best_keys(scores, min(window_size, scores.shape[-1]), "lowest")
    empty = kept == 0
    threshold = values.gather(-1, last).to(rows.bias.dtype) + 0.0  # never -0.0
    # Equal scores rank by index, so that the last one that is kept has the largest.
    cutoff = keys.gather(-1, last).int()
    return threshold.masked_fill(empty, torch.inf)[..., 0], cutoff.masked_fill(empty, -1)[..., 0]


def chunks(
    shape: tuple[int, int, int], rows: Rows, multiple_of: int = 1
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cuts `[B, H, Lq]` rows by queries, into slices whose dense mask has CHUNK_ENTRIES at most
    where that is possible with whole multiples.

    Returns:
        Per slice, the slice itself and the indices of its queries `[Lq, 1]` and of all keys `[Lk]`.
    """
    batch, heads, queries = shape
    device, key_len = rows.bias.device, rows.positions.key_len
    step = max(1, CHUNK_ENTRIES // max(1, batch * heads * key_len * multiple_of)) * multiple_of
    key = torch.arange(key_len, device=device)
    for start in range(0, queries, step):
        stop = min(start + step, queries)
        yield slice(start, stop), torch.arange(start, stop, device=device)[:, None], key


def kept_indices(rows: Rows, threshold: Tensor, cutoff: Tensor, width: int) -> Tensor:
    """The kept keys of each row `[B, H, Lq]` as int32 indices `[B, H, Lq, width]`."""
    indices = cutoff.new_empty((*threshold.shape, width))
    for queries, query, key in chunks(_shape(threshold), rows):
        kept = _kept(rows, threshold, cutoff, queries, query, key)
        indices[:, :, queries] = reference.indices_of(kept, width)
    return indices


def kept_blocks(
    rows: Rows, threshold: Tensor, cutoff: Tensor, block_size: tuple[int, int]
) -> Tensor:
    """How many keys are kept in each block of queries and keys: int32 `[B, H, nq, nk]`."""
    (batch, heads, query_len), key_len = threshold.shape, rows.positions.key_len
    query_block, key_block = block_size
    key_blocks = -(-key_len // key_block)
    counts = cutoff.new_empty((batch, heads, -(-query_len // query_block), key_blocks))
    for queries, query, key in chunks(_shape(threshold), rows, multiple_of=query_block):
        kept = _kept(rows, threshold, cutoff, queries, query, key)
        missing = (0, -key_len % key_block, 0, -len(query) % query_block)
        kept = torch.nn.functional.pad(kept, missing)
        first, some = queries.start // query_block, kept.shape[2] // query_block
        blocks = kept.view(batch, heads, some, query_block, key_blocks, key_block)
        counts[:, :, first : first + some] = blocks.sum(dim=(3, 5))
    return counts


def _kept(
    rows: Rows, threshold: Tensor, cutoff: Tensor, queries: slice, query: Tensor, key: Tensor
) -> Tensor:
    """The dense mask of some queries."""
    kept = keeps(
        rows.cut(queries), threshold[:, :, queries, None], cutoff[:, :, queries, None], query, key
    )
    return kept.expand(*threshold.shape[:2], len(query), len(key))


def _shape(threshold: Tensor) -> tuple[int, int, int]:
    batch, heads, queries = threshold.shape
    return batch, heads, queries
