"""The selection rule in readable PyTorch: which keys a row sees, and which of them it keeps.

Everything here works element by element on indices that broadcast against each other: on whole
ranges `[B, 1, Lq, 1]` and `[1, 1, 1, Lk]`, or on the four numbers that FlexAttention passes to a
`mask_mod`. A row's selection is two numbers, `threshold` and `cutoff`, so that a compiler can fuse
`keeps` into the consumer of a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dmask.kernels.reference.ranking import best_keys, masked_scores

Index = Any
"""A tensor or a NumPy array of indices, or of flags about them."""

CHUNK_ENTRIES = 2**22
"""The maximum number of dense mask entries to compute at a time."""


class Visible(NamedTuple):
    """The keys that a row sees, from position alone: those from `start` to before `end`."""

    start: Index | None
    """`None` for the first key."""
    end: Index | None
    """`None` for all keys."""
    own: Index
    """The key at the position of the row."""

    def flags(self, key: Index) -> Index | None:
        """Flags the visible keys; `None` if every row sees every key."""
        if self.end is None or self.start is None:
            return None if self.end is None else key < self.end
        return (key >= self.start) & (key < self.end)


class Positions(NamedTuple):
    """The keys that a row sees and always keeps, determined by position alone."""

    query_len: int
    key_len: int
    is_causal: bool = False
    sinks: int = 0
    local: int = 0

    def by_row(self) -> bool:
        """True if the visible or always-kept keys differ from row to row."""
        return self.is_causal or self.local > 0

    def visible(
        self, query: Index, length: Index | None, ranges: tuple[Index, Index] | None
    ) -> Visible:
        """Returns the visible keys of rows.

        Args:
            length: the number of keys in the row's sequence. Later keys are padding.
            ranges: the first visible key, and the end. The row is then at the last one. Both are
                clamped to the keys that there are.
        """
        if ranges is not None:
            start, end = (limit.clip(0, self.key_len) for limit in ranges)
            return Visible(start, end, end - 1)
        # Rows are aligned bottom-right. In a shorter sequence, they are at its last key.
        own = query + (self.key_len - self.query_len)
        if length is not None:
            own = own - (own + 1 - length).clip(min=0)
        return Visible(None, own + 1 if self.is_causal else length, own)

    def always(self, visible: Visible, key: Index) -> Index | None:
        """Flags the keys that a row keeps regardless of their scores, if it sees them; `None` if
        there are none.
        """
        if not (self.sinks or self.local):
            return None
        sink = (key if visible.start is None else key - visible.start) < self.sinks
        if not self.local:
            return sink
        return sink | ((visible.own - key < self.local) & (key <= visible.own))


class SelectionInputs(NamedTuple):
    """The scores of all rows and their restrictions. Tensors broadcast to `[B, H, Lq, Lk]`."""

    bias: Tensor
    allowed: Tensor | None
    lengths: Tensor | None
    """`[B|1, 1, 1, 1]`"""
    positions: Positions
    floor: float
    ranges: tuple[Tensor, Tensor] | None = None
    """The first visible key of each row and the end, `[B|1, 1, Lq|1, 1]`."""

    def rows(self, queries: slice) -> SelectionInputs:
        """Returns the inputs of some queries."""

        def part(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[2] == 1 else tensor[:, :, queries]

        return self._replace(
            bias=part(self.bias),
            allowed=None if self.allowed is None else part(self.allowed),
            ranges=None if self.ranges is None else (part(self.ranges[0]), part(self.ranges[1])),
        )

    def restrictions(self, query: Tensor, key: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Returns flags of the keys that all restrictions allow, and of those that rows keep
        regardless of their scores, if they are allowed. `None` stands for all keys, and for none.
        """
        visible = self.positions.visible(query, self.lengths, self.ranges)
        sees: Tensor | None = visible.flags(key)
        if sees is None or self.allowed is None:
            sees = self.allowed if sees is None else sees
        else:
            sees = sees & self.allowed
        return sees, self.positions.always(visible, key)


def keeps(
    inputs: SelectionInputs, threshold: Tensor, cutoff: Tensor, query: Tensor, key: Tensor
) -> Tensor:
    """Flags the keys that a selection keeps, element by element.

    NaN is above every number and equal to itself. With a cutoff of -1, the threshold is infinite
    and a row keeps no key by its score.
    """
    score = inputs.bias
    early = key <= cutoff
    nan = (score != score) & (early | ((threshold == threshold) & (cutoff >= 0)))
    kept = (score > threshold) | ((score == threshold) & early) | nan
    permitted, always = inputs.restrictions(query, key)
    if always is not None:
        kept = kept | (always & ~(score <= inputs.floor))
    return kept if permitted is None else kept & permitted


def select(
    inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int
) -> tuple[Tensor, Tensor]:
    """Returns the `threshold`, in the dtype of the bias, and int32 `cutoff` of rows `[B, H, Lq]`.

    They are infinity and -1 for a row that keeps no key by its score.
    """
    threshold = inputs.bias.new_full(shape, torch.inf)
    cutoff = torch.full(shape, -1, dtype=torch.int32, device=inputs.bias.device)
    if inputs.positions.key_len == 0:  # `gather` needs at least one key
        return threshold, cutoff
    for queries, query, key in chunks(shape, inputs):
        found = _select(inputs.rows(queries), query, key, window_size)
        threshold[:, :, queries], cutoff[:, :, queries] = found
    return threshold, cutoff


def _select(
    inputs: SelectionInputs, query: Tensor, key: Tensor, window_size: int
) -> tuple[Tensor, Tensor]:
    eligible = ~(inputs.bias <= inputs.floor)
    permitted, always = inputs.restrictions(query, key)
    if permitted is not None:
        eligible = eligible & permitted
    budget: Tensor | None = None
    if always is not None:
        budget = window_size - (eligible & always).sum(dim=-1, keepdim=True)
        eligible = eligible & ~always
    kept = eligible.sum(dim=-1, keepdim=True)
    kept = kept.clamp(max=window_size) if budget is None else kept.minimum(budget)
    last = (kept - 1).clamp(min=0)
    scores = masked_scores(inputs.bias, eligible, inputs.floor)
    values, keys = best_keys(scores, min(window_size, scores.shape[-1]), "lowest")
    empty = kept == 0
    threshold = values.gather(-1, last).to(inputs.bias.dtype) + 0.0  # never -0.0
    # Equal scores rank by index, so the last kept key has the largest index.
    cutoff = keys.gather(-1, last).int()
    return threshold.masked_fill(empty, torch.inf)[..., 0], cutoff.masked_fill(empty, -1)[..., 0]


def chunks(
    shape: Sequence[int], inputs: SelectionInputs, multiple_of: int = 1
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cuts rows `[B, H, Lq]` into slices of queries with at most CHUNK_ENTRIES dense mask entries.

    The length of a slice is a multiple of `multiple_of`, so a slice may have more entries.

    Yields:
        A slice, the indices of its queries `[Lq, 1]` and the indices of all keys `[Lk]`.
    """
    batch, heads, queries = shape
    device, key_len = inputs.bias.device, inputs.positions.key_len
    step = max(1, CHUNK_ENTRIES // max(1, batch * heads * key_len * multiple_of)) * multiple_of
    key = torch.arange(key_len, device=device)
    for start in range(0, queries, step):
        stop = min(start + step, queries)
        yield slice(start, stop), torch.arange(start, stop, device=device)[:, None], key


def kept_of(
    inputs: SelectionInputs,
    threshold: Tensor,
    cutoff: Tensor,
    queries: slice,
    query: Tensor,
    key: Tensor,
) -> Tensor:
    """Returns the dense mask of some queries."""
    bounds = threshold[:, :, queries, None], cutoff[:, :, queries, None]
    kept = keeps(inputs.rows(queries), *bounds, query, key)
    return kept.expand(*threshold.shape[:2], len(query), len(key))
