"""A selection (which keys each query keeps, as two numbers per row) and its conversions.

Shape legend: `B` batch, `H` query heads, `KVH` key/value heads (`H = KVH * groups`), `Lq` queries,
`Lk` keys. In every bool mask `True` means *may be attended to*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from dmask import arguments, compat, validation
from dmask.compat import known
from dmask.contracts import blocks, dense
from dmask.contracts import indices as indices_contract
from dmask.contracts import select as _select
from dmask.contracts.dispatch import call
from dmask.kernels.reference.select import Positions, SelectionInputs, keeps

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A function that FlexAttention calls with the indices of batch, head, query and key."""


_KEYS_AT_ONCE = 2**12
"""Keys per block of `Selection.counts`: several programs then count a long row."""


@dataclass(frozen=True)
class Selection:
    """The keys that `select` chose and the inputs it chose from. Call `select` to create one.

    A selection keeps an allowed key if its score is above the row's `threshold`, or equal to it at
    an index up to `cutoff`, or if `sinks` or `local` keep it by its position. NaN is above every
    number and equal to itself. If no key is kept by its score, the threshold is infinite and the
    cutoff is -1.

    A `Selection` is a pytree whose leaves are its tensors.
    """

    attention_bias: Tensor
    """The scores, `({B|1}, {H|1}, {Lq|1}, Lk)`."""
    threshold: Tensor
    """The smallest kept score of each row, `[B, H, Lq]`. `Lq` is 1 if all rows are the same."""
    cutoff: Tensor
    """The largest index kept among scores equal to the threshold, int32, `[B, H, Lq]`."""
    attention_mask: Tensor | None
    """The allowed keys, bool and 4-D."""
    key_lengths: Tensor | None
    """The number of keys of each sequence, `[B|1]`."""
    range_starts: Tensor | None
    """The first key that each row sees, `[B|1, Lq|1]`."""
    range_ends: Tensor | None
    """The end of the keys that each row sees, `[B|1, Lq|1]`."""
    window_size: int
    query_len: int
    is_causal: bool
    sinks: int
    local: int
    min_dtype: float
    """The floor: no key with a score at or below it is kept."""

    @property
    def key_len(self) -> int:
        return self.attention_bias.shape[3]

    def to_mask(self) -> Tensor:
        """Returns the kept keys as a bool mask `[B, H, Lq, Lk]`.

        In compiled code, these are plain comparisons, which a compiler can fuse with their use.

        >>> import torch, dmask
        >>> scores = torch.tensor([[[[0.3, 0.1, 0.2]]]])
        >>> dmask.select(scores, window_size=2).to_mask()
        tensor([[[[ True, False,  True]]]])
        """
        rows = self.threshold.shape[2]
        if is_compiling():
            device = self.threshold.device
            query = torch.arange(rows, device=device)[:, None]
            key = torch.arange(self.key_len, device=device)
            bounds = self.threshold[..., None], self.cutoff[..., None]
            kept = keeps(self._inputs(), *bounds, query, key)
        else:
            kept = call(dense.SPEC, *self._selected(rows))
        # If all rows are the same, the result still has a row per query.
        return kept.expand(*self.threshold.shape[:2], self.query_len, self.key_len)

    def to_bias(self, *, scores: bool = False, dtype: torch.dtype | None = None) -> Tensor:
        """Returns the selection as an additive mask `[B, H, Lq, Lk]`.

        The mask is 0 at kept keys and the smallest finite value of the dtype elsewhere.

        Args:
            scores: if True, use the scores of kept keys instead of 0. Gradients flow to the scores.
            dtype: floating-point dtype of the result. Default: the dtype of the bias.

        Raises:
            TypeError: if `scores` is not a bool, or the dtype is not floating point.

        >>> import torch, dmask
        >>> kept = dmask.select(torch.tensor([[[[0.5, 0.25]]]]), window_size=1)
        >>> kept.to_bias(scores=True).tolist()
        [[[[0.5, -3.4028234663852886e+38]]]]
        """
        arguments.check_types("bool scores", (scores,))
        dtype = self.attention_bias.dtype if dtype is None else dtype
        arguments.check_float_dtype("dtype", dtype)
        value = (
            self.attention_bias.to(dtype) if scores else self.threshold.new_zeros((), dtype=dtype)
        )
        return torch.where(self.to_mask(), value, torch.finfo(dtype).min)

    def to_indices(self, *, fill: int = -1, multiple_of: int = 1, relative: bool = False) -> Tensor:
        """Returns the kept keys as int32 indices `[B, H, Lq, K]`, ascending, then `fill`.

        Args:
            fill: what follows the kept keys of a row. Kernels of TileLang, for example, take `Lk`.
            multiple_of: `K` is the `window_size`, rounded up to a multiple of this. FlashMLA, for
                example, takes a multiple of 64 or 128.
            relative: if True, count keys from the start of the row's range (`key_ranges`), as the
                indexers of vLLM and SGLang do. Without ranges, this changes nothing.

        Raises:
            TypeError: for an argument of the wrong type.
            ValueError: for a `fill` that int32 cannot hold, or a `multiple_of` below 1.

        >>> import torch, dmask
        >>> selected = dmask.select(torch.tensor([[[[0.3, 0.1, 0.2]]]]), window_size=2)
        >>> selected.to_indices()
        tensor([[[[0, 2]]]], dtype=torch.int32)
        >>> selected.to_indices(fill=3, multiple_of=4)
        tensor([[[[0, 2, 3, 3]]]], dtype=torch.int32)
        """
        fill, multiple_of, relative = arguments.check_types(
            "SymInt fill, SymInt multiple_of, bool relative", (fill, multiple_of, relative)
        )
        validation.check_int32("fill", fill)
        validation.check_positive("multiple_of", multiple_of)
        width = -(-self.window_size // multiple_of) * multiple_of
        kept: Tensor = call(indices_contract.KEPT_INDICES, *self._selected(self.query_len), width)
        if relative and self.range_starts is not None:
            start = self.range_starts.clamp(0, self.key_len)[:, None, :, None]
            return torch.where(kept < 0, fill, kept - start.int())
        return kept if known(fill == -1) else torch.where(kept < 0, fill, kept)

    def counts(self) -> Tensor:
        """Returns how many keys each row keeps, as int32 `[B, H, Lq]`.

        Some kernels take this next to the indices, as the `topk_length` of FlashMLA.

        >>> import torch, dmask
        >>> bias = torch.tensor([[[[0.3, 0.1, 0.2]]]])
        >>> dmask.select(bias, window_size=2, is_causal=True, query_len=3).counts()
        tensor([[[1, 2, 2]]], dtype=torch.int32)
        """
        return self._kept_blocks(1, _KEYS_AT_ONCE).sum(-1, dtype=torch.int32)

    def to_bitmask(self) -> Tensor:
        """Returns the kept keys as bits, 32 keys per word: int32 `[B, H, Lq, ceil(Lk / 32)]`.

        Key `j` is bit `j % 32` of word `j // 32`. The bits after the last key are 0.

        >>> import torch, dmask
        >>> dmask.select(torch.tensor([[[[0.3, 0.1, 0.2]]]]), window_size=2).to_bitmask()
        tensor([[[[5]]]], dtype=torch.int32)
        """
        mask = torch.nn.functional.pad(self.to_mask(), (0, -self.key_len % 32))
        bit = torch.arange(8, dtype=torch.uint8, device=mask.device)
        octets = mask.unflatten(-1, (-1, 4, 8)).to(torch.uint8) << bit  # type: ignore[no-untyped-call]
        words: Tensor = octets.sum(-1, dtype=torch.uint8).view(torch.int32)
        return words.squeeze(-1)

    def to_block_map(self, block_size: int | tuple[int, int]) -> Tensor:
        """Returns which blocks have a kept key, as bool `[B, H, nq, nk]`. Creates no dense mask.

        Block-Sparse-Attention and FlashInfer's variable block sparse attention, for example, take
        such a map.

        Args:
            block_size: number of queries and keys per block, or one number for both. The last
                blocks may be shorter.

        Raises:
            TypeError: if `block_size` is not an int or a pair of ints.
            ValueError: for a block size below 1.

        >>> import torch, dmask
        >>> bias = torch.tensor([[[[0.3, 0.1, 0.2, 0.0]]]])
        >>> dmask.select(bias, window_size=1, query_len=2).to_block_map(2)
        tensor([[[[ True, False]]]])
        """
        return self._kept_blocks(*_block_size("block_size", block_size)) > 0

    def mask_mod(self, num_heads: int | None = None) -> MaskMod:
        """Returns the selection as a `mask_mod` for FlexAttention.

        Args:
            num_heads: the number of query heads, if the selection has fewer heads. Query head `h`
                then uses head `h // groups` of the selection.

        Raises:
            TypeError: if `num_heads` is not an int.
            ValueError: if `num_heads` is not a multiple of the selection's number of heads.
        """
        groups = self._groups(num_heads)
        bias, threshold, cutoff = self.attention_bias, self.threshold, self.cutoff

        def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            head = head // groups if groups > 1 else head
            row = (batch, head, query)
            inputs = self._inputs()._replace(
                bias=_at(bias, *row, key),
                allowed=_optional_at(self.attention_mask, *row, key),
                lengths=_optional_at(self.key_lengths, batch),
                ranges=self._range_at(batch, query),
            )
            return keeps(inputs, _at(threshold, *row), _at(cutoff, *row), query, key)

        return mask_mod

    def to_block_mask(
        self,
        BLOCK_SIZE: int | tuple[int, int] = 128,  # noqa: N803  (FlexAttention's name)
        num_heads: int | None = None,
    ) -> Any:
        """Returns the selection as a `BlockMask` for FlexAttention, with full and partial blocks.

        Counts kept keys per block and never creates a dense `Lq x Lk` mask.

        Args:
            BLOCK_SIZE: number of queries and keys per block, as in `create_block_mask`.
            num_heads: as in `mask_mod`.

        Raises:
            TypeError: if `BLOCK_SIZE` is not an int or a pair of ints.
            ValueError: for a block size below 1, or an invalid `num_heads`.
        """
        from torch.nn.attention.flex_attention import BlockMask  # imports half of Inductor

        block_size = _block_size("BLOCK_SIZE", BLOCK_SIZE)
        counts = self._kept_blocks(*block_size)
        groups = self._groups(num_heads)
        counts = counts.repeat_interleave(groups, dim=1) if groups > 1 else counts
        whole = block_size[0] * block_size[1]
        # No block has as many keys as the limit, and int64 may not hold more.
        lists = call(blocks.BLOCK_LISTS, counts, whole if whole < 2**31 else 2**31)
        lengths, mask_mod = (self.query_len, self.key_len), self.mask_mod(num_heads)
        made: Any = (lengths, *lists, block_size, mask_mod)
        return BlockMask(*made)

    def _positions(self) -> Positions:
        # FlexAttention's indices are int32, and PyTorch compares those wrongly with larger numbers.
        sinks, local = (
            min(count, 2**31 - 1) if isinstance(count, int) else count
            for count in (self.sinks, self.local)
        )
        return Positions(self.query_len, self.key_len, self.is_causal, sinks, local)

    def _inputs(self) -> SelectionInputs:
        lengths, ranges = _select.limits_4d(self.key_lengths, self.range_starts, self.range_ends)
        return SelectionInputs(
            self.attention_bias,
            self.attention_mask,
            lengths,
            self._positions(),
            self.min_dtype,
            ranges,
        )

    def _range_at(self, batch: Tensor, query: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.range_starts is None or self.range_ends is None:
            return None
        return _at(self.range_starts, batch, query), _at(self.range_ends, batch, query)

    def _selected(self, rows: int) -> tuple[Any, ...]:
        """Returns the leading arguments of the ops that take a selection.

        Args:
            rows: the number of rows per head: one per query, or one if all are the same.
        """
        shape = (*self.threshold.shape[:2], rows)
        return (
            self.attention_bias,
            self.threshold.expand(shape),
            self.cutoff.expand(shape),
            self.attention_mask,
            self.key_lengths,
            self.range_starts,
            self.range_ends,
            rows,
            self.is_causal,
            self.sinks,
            self.local,
            self.min_dtype,
        )

    def _kept_blocks(self, query_block: int, key_block: int) -> Tensor:
        """Returns how many keys each block keeps, as int32 `[B, H, nq, nk]`."""
        selected = self._selected(self.query_len)
        counts: Tensor = call(blocks.KEPT_BLOCKS, *selected, query_block, key_block)
        return counts

    def _groups(self, num_heads: int | None) -> int:
        heads = self.threshold.shape[1]
        if num_heads is None:
            return 1
        (num_heads,) = arguments.check_types("SymInt num_heads", (num_heads,))
        validation.check_positive("num_heads", num_heads)
        if known(heads == 1):
            return 1
        if known(num_heads % heads != 0):
            raise ValueError(
                f"num_heads must be a multiple of the {heads} heads of the selection, "
                f"got {num_heads}"
            )
        return num_heads // heads


def select(
    attention_bias: Tensor,
    window_size: int,
    *,
    attention_mask: Tensor | None = None,
    is_causal: bool = False,
    query_len: int | None = None,
    key_lengths: Tensor | None = None,
    sinks: int = 0,
    local: int = 0,
    min_dtype: float | None = None,
    key_ranges: tuple[Tensor, Tensor] | None = None,
) -> Selection:
    """Selects the keys that each query keeps, without creating an `Lq x Lk` mask.

    Args:
        attention_bias: floating-point scores, `({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1})`. With a bias per
            key (`Lq` = 1) and `is_causal`, each row ranks the keys of its prefix.
        window_size: the maximum number of keys that a row keeps.
        attention_mask: the allowed keys, 4-D or `(B, S)`, as in `create_mask`.
        is_causal: query `q` may see keys up to `q + Lk - Lq` (SDPA's `causal_lower_right`).
        query_len: `Lq`, if the tensors do not determine it.
        key_lengths: number of keys per sequence, int32 or int64 `[B|1]`. Later keys are padding.
        sinks: the number of first keys to always keep (StreamingLLM's attention sinks).
        local: the number of keys to always keep up to the row's position `q + Lk - Lq`, or up to
            the last key of a shorter sequence. Forbidden keys are never kept. Sinks and local keys
            count toward `window_size`.
        min_dtype: the floor, as in `create_mask`.
        key_ranges: the first key that each row sees, and the end of its keys: two int32 or int64
            tensors `({B|1}, {Lq|1})`. Values are clamped to `[0, Lk]`, and a row whose end is not
            after its start keeps no key. Sinks count from the start, and the position of a row is
            the last key of its range. Use ranges instead of `is_causal` and `key_lengths`.

    Returns:
        A `Selection`. If scores tie, the lower index wins, so that a row's selection depends only
        on that row. On the CPU with a bias per key and `is_causal` (or ranges that grow in the same
        way), time and memory grow with `Lq * log(window_size)`.

    Raises:
        TypeError: for a bias that is not floating point, a floating-point mask, or an argument of
            the wrong type or dtype.
        ValueError: for mismatched shapes or devices, sizes below 1, `sinks + local > window_size`,
            a floor that the dtype cannot hold, or ranges together with `is_causal` or lengths.

    >>> import torch, dmask
    >>> scores = torch.tensor([0.4, 0.1, 0.3, 0.2]).view(1, 1, 1, 4)
    >>> kept = dmask.select(scores, window_size=2, is_causal=True, query_len=4)
    >>> kept.to_mask().int()[0, 0]
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 0, 1, 0]], dtype=torch.int32)
    >>> kept.threshold
    tensor([[[0.4000, 0.1000, 0.3000, 0.3000]]])
    """
    starts, ends = arguments.check_pair("key_ranges", key_ranges)
    inputs, threshold, cutoff = _select.select(
        attention_bias,
        window_size,
        attention_mask,
        is_causal,
        query_len,
        key_lengths,
        sinks,
        local,
        min_dtype,
        starts,
        ends,
    )
    return Selection(
        attention_bias=inputs.bias,
        threshold=threshold,
        cutoff=cutoff,
        attention_mask=inputs.allowed,
        key_lengths=key_lengths,
        range_starts=starts,
        range_ends=ends,
        window_size=window_size,
        query_len=inputs.positions.query_len,
        is_causal=is_causal,
        sinks=sinks,
        local=local,
        min_dtype=inputs.floor,
    )


def _block_size(name: str, given: Any) -> tuple[int, int]:
    """Returns a checked size of blocks as a pair."""
    sizes = given if isinstance(given, (tuple, list)) else (given, given)
    if len(sizes) != 2:
        raise ValueError(f"{name} must be an int or a pair of ints, got {tuple(sizes)!r}")
    query, key = arguments.check_types(f"SymInt {name}, SymInt {name}", tuple(sizes))
    validation.check_positive(f"{name} of a query block", query)
    validation.check_positive(f"{name} of a key block", key)
    return query, key


def _at(tensor: Tensor, *indices: Tensor) -> Tensor:
    """Returns one entry, by a single indexing: FlexAttention's compiler rejects size 1."""
    places = tuple(i for i, n in zip(indices, tensor.shape, strict=True) if n != 1)
    return tensor.squeeze()[places] if places else tensor.reshape(())


def _optional_at(tensor: Tensor | None, *indices: Tensor) -> Tensor | None:
    return None if tensor is None else _at(tensor, *indices)


# ------------------------------------------------------------------ a Selection is a pytree

_TENSORS = (
    *("attention_bias", "threshold", "cutoff", "attention_mask"),
    *("key_lengths", "range_starts", "range_ends"),
)
_OTHERS = tuple(field.name for field in fields(Selection) if field.name not in _TENSORS)


def _flatten(selected: Selection) -> tuple[list[Tensor], tuple[Any, ...]]:
    """Returns the non-None tensors; the context records which they were (vmap rejects None)."""
    given = tuple(name for name in _TENSORS if getattr(selected, name) is not None)
    others = tuple(getattr(selected, name) for name in _OTHERS)
    return [getattr(selected, name) for name in given], (given, *others)


def _unflatten(tensors: Iterable[Any], context: tuple[Any, ...]) -> Selection:
    given, *others = context
    found: dict[str, Any] = {**dict.fromkeys(_TENSORS), **dict(zip(given, tensors, strict=True))}
    return Selection(**found, **dict(zip(_OTHERS, others, strict=True)))


def _from_json(context: list[Any]) -> tuple[Any, ...]:
    given, *others = context
    return (tuple(given), *others)


compat.register_pytree(Selection, _flatten, _unflatten, "dmask.Selection", _from_json)
