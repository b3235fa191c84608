"""The oracle: every rule as a plain loop over Python numbers.

It implements the documented selection rule literally and shares no code with dmask.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.support.generate import Select


def oracle_mask(
    bias: Tensor,
    mask: Tensor | None,
    sizes: tuple[int, int, int],
    window_size: int | None,
    *,
    floor: float,
    heads: int,
    strategy: str = "topk",
) -> Tensor:
    """Returns the mask of `create_mask` with ties to the lowest index, entry by entry."""
    batch, queries, _ = _result_sizes(bias, mask, sizes)
    rows = [
        [
            [_row(bias, mask, b, h, q, sizes, heads, window_size, floor, strategy) for q in queries]
            for h in range(heads)
        ]
        for b in batch
    ]
    shape = (len(batch), heads, len(queries), sizes[2])
    flat = [entry for b in rows for h in b for q in h for entry in q]
    return torch.tensor(flat, dtype=torch.bool).reshape(shape)


def _result_sizes(
    bias: Tensor, mask: Tensor | None, sizes: tuple[int, int, int]
) -> tuple[range, range, int]:
    def stretch(dim: int) -> range:
        size = bias.shape[dim]
        if mask is not None and mask.dim() == 4 and size == 1:
            size = mask.shape[dim]
        if mask is not None and mask.dim() == 2 and dim == 0 and size == 1:
            size = mask.shape[0]
        return range(size)

    return stretch(0), stretch(2), sizes[2]


def _row(
    bias: Tensor,
    mask: Tensor | None,
    b: int,
    h: int,
    q: int,
    sizes: tuple[int, int, int],
    heads: int,
    window_size: int | None,
    floor: float,
    strategy: str,
) -> list[bool]:
    keys = range(sizes[2])
    scores = [_entry(bias, b, h, q, k, heads) for k in keys]
    allowed = [_allowed(mask, b, h, q, k, sizes, heads) for k in keys]
    scores = [score if ok else floor for score, ok in zip(scores, allowed, strict=True)]
    if strategy == "relu":
        return [not s <= 0 and not s <= floor for s in scores]
    ranking = sorted(keys, key=lambda k: (not math.isnan(scores[k]), -_number(scores[k]), k))
    taken = set(ranking[: min(window_size or 0, sizes[2])])
    return [k in taken and not scores[k] <= floor for k in keys]


def _number(score: float) -> float:
    return 0.0 if math.isnan(score) else score


def _entry(tensor: Tensor, b: int, h: int, q: int, k: int, heads: int) -> float:
    index = [b, h, q, k]
    index[1] = h // (heads // tensor.shape[1])
    return float(
        tensor[tuple(0 if size == 1 else i for i, size in zip(index, tensor.shape, strict=True))]
    )


def _allowed(
    mask: Tensor | None, b: int, h: int, q: int, k: int, sizes: tuple[int, int, int], heads: int
) -> bool:
    if mask is None:
        return True
    if mask.dim() == 4:
        return _entry(mask, b, h, q, k, heads) != 0
    column = k - (sizes[2] - mask.shape[1])
    row = 0 if mask.shape[0] == 1 else b
    return column < 0 or float(mask[row, column]) != 0


def oracle_smooth(mask: Tensor, block_size: int, eligible: Tensor) -> Tensor:
    """Returns the smoothed mask, entry by entry."""
    smooth = torch.zeros_like(mask, memory_format=torch.contiguous_format)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in mask.shape[:3])).tolist():
        row = mask[tuple(index)].tolist()
        for start in range(0, len(row), block_size):
            block = row[start : start + block_size]
            for k in range(start, start + len(block)):
                keep = sum(block) * 2 > len(block) and bool(eligible[tuple(index)][k])
                smooth[(*index, k)] = keep
    return smooth


def oracle_selection(
    bias: Tensor,
    mask: Tensor | None,
    lengths: list[int] | None,
    shape: tuple[int, int, int, int],
    window_size: int,
    *,
    floor: float,
    query_len: int,
    is_causal: bool,
    sinks: int,
    local: int,
    ranges: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Returns the mask of a selection, row by row, in `shape`."""
    batches, heads, queries, key_len = shape
    sizes = (batches, query_len, key_len)
    kept = torch.zeros(shape, dtype=torch.bool)
    for b in range(batches):
        length = key_len if lengths is None else lengths[0 if len(lengths) == 1 else b]
        for h in range(heads):
            for q in range(queries):
                own, start, end = min(q + key_len - query_len, length - 1), 0, length
                if is_causal:
                    end = min(end, own + 1)
                if ranges is not None:
                    start, end = (min(max(_limit(r, b, q), 0), key_len) for r in ranges)
                    own = end - 1
                scores = [_entry(bias, b, h, q, k, heads) for k in range(key_len)]
                candidates = [
                    k
                    for k in range(key_len)
                    if start <= k < end
                    and _allowed(mask, b, h, q, k, sizes, heads)
                    and not scores[k] <= floor
                ]
                always = [k for k in candidates if k - start < sinks or own - local < k <= own]
                others = [k for k in candidates if k not in always]
                others.sort(key=lambda k: (not math.isnan(scores[k]), -_number(scores[k]), k))
                for k in always + others[: window_size - len(always)]:
                    kept[b, h, q, k] = True
    return kept


def _limit(limit: Tensor, b: int, q: int) -> int:
    return int(limit[0 if limit.shape[0] == 1 else b, 0 if limit.shape[1] == 1 else q])


def oracle_topp(scores: list[float], window_size: int | None, p: float) -> set[int]:
    """Returns the smallest set of eligible keys of a row with softmax mass `p`.

    In this and the next two functions, NaN marks a key that is not eligible.
    """
    keys = [k for k, score in enumerate(scores) if not math.isnan(score)]
    if not keys:
        return set()
    top = max(scores[k] for k in keys)
    shares = {k: math.exp(scores[k] - top) for k in keys}
    keys.sort(key=lambda k: (-scores[k], k))
    chosen: set[int] = set()
    while keys and math.fsum(shares[k] for k in chosen) < (p - 1e-12) * math.fsum(shares.values()):
        chosen.add(keys.pop(0))
    ranked = sorted(chosen, key=lambda k: (-scores[k], k))
    return set(ranked[:window_size])


def oracle_ratio(scores: list[float], window_size: int | None, percent: int) -> set[int]:
    """Returns the best `percent` percent of a row's eligible keys, rounded up."""
    keys = [k for k, score in enumerate(scores) if not math.isnan(score)]
    count = -(-len(keys) * percent // 100)
    return set(sorted(keys, key=lambda k: (-scores[k], k))[: min(count, window_size or count)])


def oracle_block_topk(
    scores: list[float], own_key: int, window_size: int, key_block: int, pool: str
) -> set[int]:
    """Returns the eligible keys of a row in the block at its position and in the best other blocks."""
    blocks: dict[int, list[float]] = {}
    for k, score in enumerate(scores):
        blocks.setdefault(k // key_block, [])
        if not math.isnan(score):
            blocks[k // key_block].append(score)
    own = own_key // key_block

    def pooled(block: int) -> float:
        members = blocks[block]
        if not members:
            return -math.inf
        return max(members) if pool == "max" else math.fsum(members) / len(members)

    ranked = sorted(blocks, key=lambda block: (block != own, -pooled(block), block))
    chosen = ranked[: max(1, window_size // key_block)]
    return {k for k, s in enumerate(scores) if k // key_block in chosen and not math.isnan(s)}


def expected_selection(call: Select) -> Tensor:
    """Returns the expected mask of a generated `select` call, with a row per query."""
    rows = oracle_selection(
        call.bias,
        call.mask,
        None if call.lengths is None else call.lengths.tolist(),
        call.shape,
        call.window_size,
        floor=call.floor,
        query_len=call.query_len,
        is_causal=call.is_causal,
        sinks=call.sinks,
        local=call.local,
        ranges=call.ranges,
    )
    return rows.expand(-1, -1, call.query_len, -1)
