"""Each consumer's layout, read back by a plain loop that follows the consumer's documentation.

`docs/layouts.md` shows the lines that make the layouts; its examples run here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from tests.support.scores import scores

PAGE = (Path(__file__).parent.parent / "docs" / "layouts.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)

BATCH, QUERIES, KEYS, WINDOW = 2, 5, 96, 12
Rows = list[set[int]]
"""The keys of each row, over batch entries, heads and queries."""


def test_the_page_runs() -> None:
    """All blocks in one process, because they build on the first one."""
    names: dict[str, Any] = {}
    exec("\n".join(BLOCKS), names)
    selected = names["selected"].to_mask()
    assert selected.shape == (2, 2, 6, 256)
    assert names["index_mask"].shape == (2, 6, 256)
    assert {"block_indices", "tilelang_indices", "indices_in_kvcache"} < set(names)


def choice(heads: int = 1) -> dmask.Selection:
    """Selects with causality: the first rows of the short sequence keep fewer keys than the window."""
    bias = scores(BATCH, heads, QUERIES, KEYS)
    return dmask.select(bias, WINDOW, is_causal=True, key_lengths=torch.tensor([KEYS, 7]))


def kept(mask: Tensor) -> Rows:
    return [set(row.nonzero().flatten().tolist()) for row in mask.flatten(0, -2)]


def until_negative(rows: Tensor) -> Rows:
    """Reads indices up to the first negative one. All that follow must be negative, too."""
    found = []
    for row in rows.flatten(0, -2).tolist():
        count = next((i for i, index in enumerate(row) if index < 0), len(row))
        assert all(index == -1 for index in row[count:])
        assert row[:count] == sorted(set(row[:count]))
        found.append(set(row[:count]))
    return found


def flash_mla_prefill() -> Rows:
    rows: Rows = []
    for entry in range(BATCH):
        selected = choice()
        indices = selected.to_indices(multiple_of=64)[entry].transpose(0, 1)
        lengths = selected.counts()[entry, 0]
        assert indices.shape == (QUERIES, 1, 64)
        assert indices.dtype is lengths.dtype is torch.int32
        assert lengths.shape == (QUERIES,)
        for row, length in zip(indices[:, 0].tolist(), lengths.tolist(), strict=True):
            assert all(0 <= index < KEYS for index in row[:length])
            rows.append(set(row[:length]))
        assert until_negative(indices) == rows[-QUERIES:]
    return rows


def flash_mla_decode() -> Rows:
    """Reads keys out of a paged cache whose entries hold their own logical positions."""
    page_size = 16
    pages = torch.randperm(BATCH * KEYS // page_size, generator=torch.Generator().manual_seed(0))
    table = pages.view(BATCH, -1).int()
    cache = torch.full((BATCH * KEYS,), -7)
    for entry in range(BATCH):
        for position in range(KEYS):
            page = int(table[entry, position // page_size])
            cache[page * page_size + position % page_size] = position + 1000 * entry
    indices = dmask.page_indices(choice().to_indices()[:, 0], table, page_size)
    assert indices.dtype is torch.int32
    assert indices.shape == (BATCH, QUERIES, WINDOW)
    return [
        {int(cache[index]) - 1000 * entry for index in row if index >= 0}
        for entry in range(BATCH)
        for row in indices[entry].tolist()
    ]


def flash_sparse_attention() -> Rows:
    """Reads the keys of the last query only."""
    indices = choice().to_indices()[:, 0, -1]
    assert indices.shape == (BATCH, WINDOW)
    last = until_negative(indices[:, None])
    rows = kept(choice().to_mask())
    return [last[i // QUERIES] if i % QUERIES == QUERIES - 1 else row for i, row in enumerate(rows)]


def flash_attention_4() -> Rows:
    indices = choice().to_indices(multiple_of=128)[:, 0]
    assert indices.shape == (BATCH, QUERIES, 128)
    assert indices.dtype is torch.int32
    return [{i for i in row if 0 <= i < KEYS} for row in indices.flatten(0, 1).tolist()]


def attention_gym() -> Rows:
    return until_negative(choice().to_indices()[:, 0])


def megatron() -> Rows:
    indices, lengths = choice().to_indices()[:, 0], choice().counts()[:, 0]
    rows = indices.flatten(0, 1).tolist()
    return [set(row[:n]) for row, n in zip(rows, lengths.flatten().tolist(), strict=True)]


def tilelang() -> Rows:
    indices = choice().to_indices(fill=KEYS).transpose(1, 2)
    assert indices.shape == (BATCH, QUERIES, 1, WINDOW)
    assert indices.dtype is torch.int32
    assert int(indices.min()) >= 0
    return [{i for i in row if i != KEYS} for row in indices.flatten(0, 2).tolist()]


def hugging_face() -> Rows:
    """Reads `full(-inf).scatter(-1, indices, 0)`."""
    indices = choice().to_indices()[:, 0]
    mask = dmask.mask_from_indices(indices, KEYS, fill=-torch.inf)
    assert mask.shape == (BATCH, QUERIES, KEYS)
    assert set(mask.unique().tolist()) == {-torch.inf, 0.0}
    return kept(mask == 0)


CONSUMERS: dict[str, Callable[[], Rows]] = {
    "FlashMLA, prefill": flash_mla_prefill,
    "FlashMLA, decoding": flash_mla_decode,
    "flash-sparse-attn": flash_sparse_attention,
    "FlashAttention 4": flash_attention_4,
    "attention-gym": attention_gym,
    "Megatron, cuDNN": megatron,
    "TileLang": tilelang,
    "Hugging Face": hugging_face,
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_reads_the_kept_keys(name: str) -> None:
    expected = kept(choice().to_mask())
    assert min(map(len, expected)) < WINDOW == max(map(len, expected))
    assert CONSUMERS[name]() == expected


def test_rows_of_serving_engines() -> None:
    """Rows with `ks` and `ke`: indices count from `ks`, and logits outside are garbage."""
    lengths = torch.tensor([0, 3, 3, 20, 31], dtype=torch.int32)
    ks, ke = dmask.packed_ranges(lengths, lengths, 31, is_causal=True)
    logits = torch.full((31, 31), torch.nan)
    expected: list[list[int]] = []
    for row, (start, end) in enumerate(zip(ks[0].tolist(), ke[0].tolist(), strict=True)):
        inside = scores(end - start) * (row + 1)
        logits[row, start:end] = inside
        best = sorted(range(end - start), key=lambda key: (-float(inside[key]), key))[:4]
        expected.append(sorted(best) + [-1] * (4 - len(best)))
    selected = dmask.select(logits[None, None], 4, key_ranges=(ks, ke))
    indices = selected.to_indices(relative=True)[0, 0]
    assert indices.dtype is torch.int32
    assert indices.tolist() == expected


def block_tiles(mask: Tensor, rows: int, columns: int) -> Iterable[tuple[tuple[int, ...], Tensor]]:
    for b, h in torch.cartesian_prod(*map(torch.arange, mask.shape[:2])).tolist():
        for i, line in enumerate(mask[b, h].split(rows)):
            for j, tile in enumerate(line.split(columns, dim=1)):
                yield (b, h, i, j), tile


@pytest.mark.parametrize("size", [(2, 16), (4, 40)])
def test_maps_of_blocks(size: tuple[int, int]) -> None:
    """As FlashInfer, Block-Sparse-Attention and SpargeAttn read them."""
    selected = choice(heads=2)
    found = selected.to_block_map(size)
    assert found.dtype is torch.bool
    assert found.shape == (BATCH, 2, -(-QUERIES // size[0]), -(-KEYS // size[1]))
    for place, tile in block_tiles(selected.to_mask(), *size):
        assert bool(found[place]) == bool(tile.any())


def test_block_masks() -> None:
    """Counts, then a valid prefix of indices, for partial and for full blocks."""
    selected = choice(heads=2)
    blocks = selected.to_block_mask((2, 16))
    seen = torch.zeros(BATCH, 2, 3, 6, dtype=torch.int64)
    lists = (
        (1, blocks.kv_num_blocks, blocks.kv_indices),
        (2, blocks.full_kv_num_blocks, blocks.full_kv_indices),
    )
    for kind, counts, indices in lists:
        assert counts.dtype is indices.dtype is torch.int32
        for b, h, i in torch.cartesian_prod(*map(torch.arange, counts.shape)).tolist():
            valid = indices[b, h, i, : int(counts[b, h, i])].tolist()
            assert valid == sorted(set(valid))
            seen[b, h, i, valid] = kind
    for place, tile in block_tiles(selected.to_mask(), 2, 16):
        whole = tile.all() and tile.shape == (2, 16)
        assert int(seen[place]) == (2 if whole else int(tile.any()))
