"""Hypothesis strategies for calls of `create_mask` and `select`, over all shapes and layouts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class Call:
    """The arguments of one call to `create_mask`."""

    bias: Tensor
    mask: Tensor | None
    sizes: tuple[int, int, int]
    window_size: int
    min_dtype: float | None
    heads: int

    @property
    def floor(self) -> float:
        """The floor, rounded to the dtype of the bias."""
        if self.min_dtype is None:
            return torch.finfo(self.bias.dtype).min
        return torch.tensor(self.min_dtype, dtype=self.bias.dtype).item()

    def full(self) -> tuple[Tensor, Tensor | None]:
        """Returns the bias and a bool mask in the shape of the result, by plain indexing."""
        keys = self.sizes[2]
        batch, queries = (0 if 0 in n else max(n) for n in (self._lengths(0), self._lengths(2)))

        def expand(tensor: Tensor) -> Tensor:
            head = torch.arange(self.heads) // (self.heads // tensor.shape[1])
            return tensor[:, head].expand(batch, self.heads, queries, keys)

        if self.mask is None:
            return expand(self.bias), None
        mask = self.mask != 0
        if mask.dim() == 2:
            cached = torch.ones(mask.shape[0], keys - mask.shape[1], dtype=torch.bool)
            mask = torch.cat([cached, mask], dim=1)[:, None, None, :]
        return expand(self.bias), expand(mask)

    def _lengths(self, dim: int) -> list[int]:
        """Returns the lengths of one dimension of the result, in the tensors that have it."""
        lengths = [self.bias.shape[dim]]
        if self.mask is not None and (self.mask.dim() == 4 or dim == 0):
            lengths.append(self.mask.shape[dim])
        return lengths

    def __repr__(self) -> str:
        mask = None if self.mask is None else (tuple(self.mask.shape), self.mask.dtype)
        return (
            f"Call(bias={tuple(self.bias.shape)}, {self.bias.dtype}, strides={self.bias.stride()}, "
            f"mask={mask}, sizes={self.sizes}, window_size={self.window_size}, "
            f"min_dtype={self.min_dtype}, scores={self.bias.flatten()[:24].tolist()})"
        )


@st.composite
def calls(draw: st.DrawFn, max_key_len: int = 40) -> Call:
    key_heads, groups = draw(st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 2), (3, 2)]))
    batch = draw(st.sampled_from([0, 1, 1, 2, 3]))
    queries = draw(st.sampled_from([0, 1, 1, 2, 5]))
    keys = draw(st.one_of(st.sampled_from([0, 1, 2]), st.integers(1, max_key_len)))
    if keys > 10_000:  # a few rows, so that an example does not take seconds
        key_heads, groups, batch, queries = 1, min(groups, 2), min(batch, 2), min(queries, 2)
    sizes = (batch, queries, keys)
    heads = key_heads * groups
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    head_counts = st.sampled_from([1, key_heads, heads])
    bias_shape = draw(_broadcast_shape(batch, head_counts, queries, keys))
    bias = draw(_layout(_scores(bias_shape, draw(st.sampled_from(_KINDS)), generator)))
    bias = bias.to(draw(st.sampled_from(DTYPES)))
    mask = draw(_masks(sizes, head_counts, generator))
    floors = [None, None, None, 0.0, -1.0, 0.5, 0.1, -0.3, -float("inf")]
    return Call(
        bias=bias,
        mask=mask,
        sizes=sizes,
        window_size=draw(st.integers(1, keys + 3)),
        min_dtype=draw(st.sampled_from(floors)),
        heads=_result_heads(bias, mask),
    )


def _result_heads(bias: Tensor, mask: Tensor | None) -> int:
    return max(bias.shape[1], mask.shape[1] if mask is not None and mask.dim() == 4 else 1)


@st.composite
def _broadcast_shape(
    draw: st.DrawFn, batch: int, heads: st.SearchStrategy[int], queries: int, keys: int
) -> tuple[int, int, int, int]:
    keep = st.sampled_from([True, True, True, False])
    b, q, k = (size if draw(keep) else 1 for size in (batch, queries, keys))
    return b, draw(heads), q, k


_KINDS = ("normal", "tied", "constant", "special", "relu", "denormal")


def _scores(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> Tensor:
    scores = torch.randn(shape, generator=generator)
    if kind == "tied":
        return scores.mul(1.5).round()
    if kind == "constant":
        return torch.full(shape, 0.5)
    if kind == "relu":
        return scores.relu()
    if kind == "denormal":
        return scores * 1e-40
    if kind == "special":
        nan = torch.tensor(torch.nan)
        special = torch.tensor([nan, -nan, torch.inf, -torch.inf, 0.0, -0.0, 1.0])
        choice = torch.randint(0, 2 * len(special), shape, generator=generator)
        return torch.where(
            choice < len(special), special[choice.clamp(max=len(special) - 1)], scores
        )
    return scores


@st.composite
def _layout(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    """Draws a memory layout for the same values, except that `expanded` repeats the first query."""
    kind = draw(st.sampled_from(["contiguous", "transposed", "sliced", "expanded"]))
    if kind == "transposed":
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == "sliced":
        return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]
    if kind == "expanded" and tensor.shape[2] > 1:
        return tensor[:, :, :1].expand(tensor.shape)
    return tensor


@st.composite
def _masks(
    draw: st.DrawFn,
    sizes: tuple[int, int, int],
    heads: st.SearchStrategy[int],
    generator: torch.Generator,
) -> Tensor | None:
    batch, queries, keys = sizes
    kinds = ["none", "4d", "4d", "keys", "left", "right", "empty"]
    if queries < keys:
        kinds.append("queries")
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return None
    if kind in ("left", "right"):
        lengths = torch.randint(0, keys + 1, (batch, 1), generator=generator)
        ascending = torch.arange(keys) if kind == "right" else torch.arange(keys).flip(0)
        mask = ascending < lengths
    else:
        shape: tuple[int, ...] = (batch, queries if kind == "queries" else keys)
        if kind in ("4d", "empty"):
            shape = draw(_broadcast_shape(batch, heads, queries, keys))
        share = 1.0 if kind == "empty" else draw(st.sampled_from([0.1, 0.5, 0.9]))
        mask = torch.rand(shape, generator=generator) >= share
    return mask.to(draw(st.sampled_from([torch.bool, torch.bool, torch.int64, torch.uint8])))


@dataclass(frozen=True)
class Select:
    """The arguments of one call to `select`, and the shape of its rows."""

    bias: Tensor
    mask: Tensor | None
    lengths: Tensor | None
    window_size: int
    query_len: int
    is_causal: bool
    sinks: int
    local: int
    min_dtype: float | None
    shape: tuple[int, int, int, int]
    ranges: tuple[Tensor, Tensor] | None = None

    @property
    def options(self) -> dict[str, Any]:
        return {
            "attention_mask": self.mask,
            "is_causal": self.is_causal,
            "query_len": self.query_len,
            "key_lengths": self.lengths,
            "sinks": self.sinks,
            "local": self.local,
            "min_dtype": self.min_dtype,
            "key_ranges": self.ranges,
        }

    @property
    def floor(self) -> float:
        if self.min_dtype is None:
            return torch.finfo(self.bias.dtype).min
        return torch.tensor(self.min_dtype, dtype=self.bias.dtype).item()


@st.composite
def selects(draw: st.DrawFn, max_key_len: int = 24) -> Select:
    call = draw(calls(max_key_len))
    batch, query_len, key_len = call.sizes
    # select has no argument for the number of keys, so one of the tensors must have it.
    sized = (
        [call.bias, call.mask] if call.mask is not None and call.mask.dim() == 4 else [call.bias]
    )
    if all(tensor.shape[3] == 1 for tensor in sized) and key_len != 1:
        call = replace(call, bias=call.bias.expand(-1, -1, -1, key_len).contiguous())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    lengths = draw(st.sampled_from([None, None, 1, batch]))
    sinks, local = (draw(st.sampled_from([0, 0, 1, 2, 5])) for _ in range(2))
    is_causal = draw(st.booleans())
    ranges = None
    if lengths is None and not is_causal and draw(st.booleans()):
        ranges = draw(_ranges(batch, query_len, key_len, generator))
    tensors = [call.bias] + ([] if call.mask is None else [call.mask])
    batches = [t.shape[0] for t in tensors] + ([] if lengths is None else [lengths])
    rows = [t.shape[2] for t in tensors if t.dim() == 4]
    for limit in ranges or ():
        batches.append(limit.shape[0])
        rows.append(limit.shape[1])
    return Select(
        bias=call.bias,
        mask=call.mask,
        lengths=(
            None
            if lengths is None
            else torch.randint(0, key_len + 2, (lengths,), generator=generator)
        ),
        window_size=max(call.window_size, sinks + local),
        query_len=query_len,
        is_causal=is_causal,
        sinks=sinks,
        local=local,
        min_dtype=call.min_dtype,
        shape=(
            next((n for n in batches if n != 1), 1),
            call.heads,
            query_len if is_causal or local else next((n for n in rows if n != 1), 1),
            key_len,
        ),
        ranges=ranges,
    )


@st.composite
def _ranges(
    draw: st.DrawFn, batch: int, query_len: int, key_len: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draws the visible keys of each row: any, those of a packed batch, or those of its position."""

    def some() -> Tensor:
        shape = draw(st.sampled_from([1, batch])), draw(st.sampled_from([1, query_len]))
        return torch.randint(-2, key_len + 3, shape, generator=generator)

    kind = draw(st.sampled_from(["any", "packed", "prefixes"]))
    start, end = some(), some()
    if kind != "any":
        query = torch.arange(query_len)[None]
        end = query + 1 + key_len - query_len
        start = torch.zeros_like(end)
    if kind == "packed":
        length = draw(st.integers(1, 9))
        start = query // length * length
    if draw(st.booleans()):  # a view with gaps
        end = torch.stack([end - 1, end], dim=-1)[..., 1]
    dtypes = st.sampled_from([torch.int32, torch.int64])
    return start.to(draw(dtypes)), end.to(draw(dtypes))
