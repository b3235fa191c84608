"""Samples of every op: those in the package, and more shapes, layouts, dtypes and masks.

`test_all.py` runs opcheck, vmap, fake and meta tensors on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import dmask
from dmask.samples import SAMPLES as BASIC
from dmask.samples import Sample, Samples
from tests.support.scores import allowed, scores

BATCH, HEADS, QUERY_LEN, KEY_LEN = 2, 4, 3, 16

BIASES: Mapping[str, Callable[[], Tensor]] = {
    "float32": lambda: scores(2, 4, 3, 16),
    "bfloat16": lambda: scores(2, 4, 3, 16).bfloat16(),
    "float16": lambda: scores(2, 4, 3, 16).half(),
    "float64": lambda: scores(2, 4, 3, 16).double(),
    "requires grad": lambda: scores(2, 4, 3, 16).requires_grad_(),
    "per key": lambda: scores(2, 2, 1, 16),
    "per key, bfloat16, requires grad": lambda: scores(2, 2, 1, 16).bfloat16().requires_grad_(),
    "one key": lambda: scores(2, 4, 3, 1),
    "transposed": lambda: scores(2, 4, 16, 3).transpose(-1, -2),
    "expanded": lambda: scores(2, 1, 1, 16).expand(2, 4, 3, 16),
    "tied": lambda: scores(2, 4, 3, 16).round(),
    "empty": lambda: scores(0, 4, 3, 16),
}
MASKS: Mapping[str, Callable[[], Tensor | None]] = {
    "no mask": lambda: None,
    "mask": lambda: allowed(2, 1, 3, 16),
    "mask per head": lambda: allowed(1, 4, 1, 16),
    "integer mask": lambda: allowed(2, 4, 3, 16).long(),
}


def _pairs() -> Iterator[tuple[str, str]]:
    """Yields each bias with each mask of its batch."""
    for bias in BIASES:
        for mask in MASKS:
            if bias != "empty" or mask in ("no mask", "mask per head"):
                yield bias, mask


def _some_pairs() -> Iterator[tuple[str, str]]:
    """Yields each bias without a mask, and two of them with each mask."""
    masked = ("float32", "per key, bfloat16, requires grad")
    return ((bias, mask) for bias, mask in _pairs() if bias in masked or mask == "no mask")


def _ranked(
    pairs: Iterator[tuple[str, str]], *args: Any, suffix: str = "", **options: Any
) -> Samples:
    """Returns the samples of an op that takes a bias and a mask, followed by `args`."""

    def make(bias: str, mask: str) -> Sample:
        return Sample((BIASES[bias](), MASKS[mask](), *args), options)

    return {f"{bias}, {mask}{suffix}": partial(make, bias, mask) for bias, mask in pairs}


def _created(
    bias: Callable[[], Tensor], mask: Callable[[], Any], *args: Any, **options: Any
) -> Sample:
    scores = bias()
    return Sample((scores, mask(), scores.shape[0], QUERY_LEN, KEY_LEN, *args), options)


def _create_mask() -> Samples:
    made: dict[str, Callable[[], Sample]] = {
        f"{bias}, {mask}": partial(_created, BIASES[bias], MASKS[mask], 5)
        for bias, mask in _pairs()
    }
    for length in (KEY_LEN, QUERY_LEN):
        create = partial(_created, BIASES["float32"], partial(allowed, BATCH, length))
        made |= {
            f"(B, {length}) mask, blocks": partial(create, 5, None, 4),
            f"(B, {length}) mask, relu": partial(create, None, None, None, "relu"),
            f"(B, {length}) mask, wide window, lowest": partial(
                create, 99, tie_break="lowest", options=""
            ),
        }
    return {
        **made,
        "one mask for the batch": partial(
            _created, BIASES["float32"], partial(allowed, 1, KEY_LEN), 5
        ),
        "options": partial(
            _created, BIASES["tied"], MASKS["mask"], 5, type="topp", options="p=0.5"
        ),
        "floor": partial(_created, BIASES["tied"], MASKS["mask"], 5, -1.0, tie_break="lowest"),
    }


def _kept(layout: Callable[[Tensor], Tensor], mask: Callable[[], Any]) -> Sample:
    return Sample((layout(allowed(2, 4, 3, 16)), 3, mask()))


LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.mT.contiguous().mT,
    "sliced": lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 0],
    "expanded": lambda tensor: tensor[:, :1].expand(tensor.shape),
    "empty": lambda tensor: tensor[:0],
}


def _block_smooth() -> Samples:
    made: dict[str, Callable[[], Sample]] = {
        f"{layout}, {mask}": partial(_kept, LAYOUTS[layout], MASKS[mask])
        for layout in ("contiguous", "transposed")
        for mask in MASKS
    }
    made |= {
        name: partial(_kept, LAYOUTS[name], MASKS["no mask"]) for name in ("expanded", "empty")
    }
    return {**made, "wide blocks": lambda: Sample((allowed(2, 4, 3, 16), 99))}


# ------------------------------------------------------------------ selections and indices

_LENGTHS = (16, 3)


def _in_ranges(bias: Tensor, sinks: int, local: int) -> Sample:
    """Selects in ranges: whole and partial ones, and some that are empty, inverted or too long."""
    start = torch.tensor([[0, 3, 9, 9, -4, 16], [0, 0, 0, 5, 5, 5]], dtype=torch.int32)
    end = torch.tensor([[16, 4, 9, 7, 99, 20]])
    return Sample((bias, 5, None, False, 6, None, sinks, local, None, start, end))


SELECTIONS: Samples = {
    "per query": lambda: Sample((scores(2, 4, 6, 16), 5)),
    "per key, causal": lambda: Sample((scores(2, 2, 1, 16), 5, None, True, 6)),
    "per key, alike": lambda: Sample((scores(2, 2, 1, 16), 5, None, False, 6)),
    "one key": lambda: Sample((scores(2, 2, 6, 1), 5)),
    "mask": lambda: Sample((scores(2, 2, 6, 16), 5, scores(2, 4, 1, 16) > 0, False)),
    "integer mask": lambda: Sample((scores(2, 4, 6, 16), 5, allowed(2, 4, 6, 16).int())),
    "2-D mask, lengths": lambda: Sample(
        (
            scores(1, 4, 6, 16).bfloat16(),
            5,
            allowed(2, 16),
            True,
            6,
            torch.tensor(_LENGTHS),
            1,
            2,
        )
    ),
    "local": lambda: Sample((scores(2, 4, 6, 16), 5, None, False, 6, None, 0, 2)),
    "floor": lambda: Sample((scores(2, 4, 6, 16), 5, None, False, 6, None, 0, 0, 0.25)),
    "ranges": lambda: _in_ranges(scores(2, 4, 6, 16), 0, 2),
    "ranges, per key": lambda: _in_ranges(scores(1, 2, 1, 16).bfloat16(), 1, 0),
    "one range for all": lambda: Sample(
        (
            *(scores(2, 4, 6, 16), 5, None, False, None, None, 0, 0, None),
            *(torch.tensor([[3]]), torch.tensor([[40]])),
        )
    ),
    "requires grad": lambda: Sample((scores(2, 4, 6, 16).requires_grad_(), 5)),
    "transposed": lambda: Sample((scores(2, 4, 16, 6).transpose(-1, -2), 5)),
    "expanded": lambda: Sample((scores(2, 1, 1, 16).expand(2, 4, 6, 16), 5)),
    "tied": lambda: Sample((scores(2, 4, 6, 16).round(), 5)),
    "float16": lambda: Sample((scores(2, 4, 6, 16).half(), 5)),
    "float64": lambda: Sample((scores(2, 4, 6, 16).double(), 5)),
    "wide window": lambda: Sample((scores(2, 4, 6, 16), 99)),
    "empty": lambda: Sample((scores(0, 4, 6, 16), 5)),
}
_NAMES = (
    "attention_mask", "is_causal", "query_len", "key_lengths", "sinks", "local", "min_dtype",
)  # fmt: skip


def _of_a_selection(*args: Any, width: bool = False) -> Samples:
    """Returns the samples of an op that takes a selection, followed by `args` or its width."""

    def make(select: Callable[[], Sample]) -> Sample:
        bias, window_size, *others = select().args
        options: dict[str, Any] = dict(zip(_NAMES, others, strict=False))
        options["key_ranges"] = tuple(others[len(_NAMES) :]) or None
        selected = dmask.select(bias, window_size, **options)
        others = (window_size,) if width else args
        return Sample((*selected._selected(selected.query_len), *others))

    return {name: partial(make, select) for name, select in SELECTIONS.items()}


def _indices(*shape: int, below: int = 16) -> Tensor:
    """Returns int64 indices that start at -1."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(-1, below, shape, generator=generator)


def _integers(layout: str, dtype: torch.dtype) -> Sample:
    return Sample((LAYOUTS[layout](allowed(2, 4, 3, 16)).to(dtype),))


INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "topp": {"p": 0.5},
    "ratio": {"ratio": 0.25},
    "block_topk": {"key_block": 4, "pool": "mean"},
}
"""Strategies that have options, with values other than the defaults."""


def _strategy(name: str) -> Samples:
    return {
        **_ranked(_some_pairs(), 8),
        **_ranked(_some_pairs(), 8, suffix=", options", **STRATEGIES[name]),
    }


def _indexed(dtype: torch.dtype, *args: Any, transposed: bool = False) -> Sample:
    """Returns queries and keys of an indexer, of small integers, whose sums are exact."""
    query, key = scores(2, 6, 2, 8).mul(2).round().to(dtype), scores(2, 16, 8).round().to(dtype)
    if transposed:  # [B, Hi, Lq, D], as in attention
        query = query.transpose(1, 2).contiguous().transpose(1, 2)
        key = key.mT.contiguous().mT
    return Sample((query, key, scores(2, 6, 2).round(), *args))


def _counted(layout: Callable[[Tensor], Tensor], whole: int) -> Sample:
    return Sample((layout(allowed(2, 4, 3, 16).int()), whole))


MORE: Mapping[str, Samples] = {
    "as_bool": {
        **{str(dtype): partial(_integers, "contiguous", dtype) for dtype in INTEGERS},
        **{layout: partial(_integers, layout, torch.int64) for layout in LAYOUTS},
    },
    "block_lists": {
        f"{name}, {whole}": partial(_counted, layout, whole)
        for name, layout in LAYOUTS.items()
        for whole in (1, 2**40)
    },
    "block_smooth": _block_smooth(),
    "block_topk_mask": _strategy("block_topk"),
    "create_mask": _create_mask(),
    "indexer_topk": {
        "bfloat16": lambda: _indexed(torch.bfloat16, 5),
        "float16, wide window": lambda: _indexed(torch.float16, 40),
        "float64, 2-D mask": lambda: _indexed(torch.float64, 5, None, "none", allowed(2, 16)),
        "transposed": lambda: _indexed(torch.float32, 5, transposed=True),
        "empty": lambda: Sample((scores(0, 6, 2, 8), scores(0, 16, 8), scores(0, 6, 2), 5)),
    },
    "kept_blocks": _of_a_selection(4, 8),
    "kept_indices": _of_a_selection(width=True),
    "kept_mask": _of_a_selection(),
    "mask_from_indices": {
        "keys, int32": lambda: Sample((_indices(2, 4, 3, 5).int(), 16)),
        "keys, int64": lambda: Sample((_indices(2, 4, 3, 5), 16)),
        "blocks, short last one": lambda: Sample((_indices(2, 4, 3, 2, below=6), 16, 3)),
        "transposed": lambda: Sample((_indices(2, 4, 5, 3).transpose(-1, -2), 16)),
        "expanded": lambda: Sample((_indices(2, 1, 1, 5).expand(2, 4, 3, 5), 16)),
        "no index": lambda: Sample((_indices(2, 4, 3, 0), 16)),
        "no heads": lambda: Sample((_indices(2, 3, 5), 16)),
        "past the end": lambda: Sample((_indices(2, 4, 3, 5, below=30), 16, 1, "ignore")),
        "empty": lambda: Sample((_indices(0, 4, 3, 5), 16)),
    },
    "ratio_mask": _strategy("ratio"),
    "relu_mask": _ranked(_pairs()),
    "select": SELECTIONS,
    "topk_indices": {
        **_ranked(_pairs(), 20),
        "no heads": lambda: Sample((scores(2, 3, 16), None, 5)),
        "no heads, mask": lambda: Sample((scores(2, 3, 16), allowed(1, 3, 16), 5)),
    },
    "topk_mask": {
        **_ranked(_pairs(), 5),
        **_ranked(_pairs(), 5, -1.0, suffix=", floor, lowest", tie_break="lowest"),
        **_ranked(_some_pairs(), 99, suffix=", wide window"),
    },
    "topp_mask": _strategy("topp"),
}
SAMPLES: Mapping[str, Samples] = {
    op: {**{f"basic, {name}": make for name, make in BASIC.get(op, {}).items()}, **more}
    for op, more in MORE.items()
}
ALL = [(op, name) for op, named in SAMPLES.items() for name in named]
"""Every sample by the name of its op and its own name."""
