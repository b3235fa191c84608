"""What the graph-break audit checks of dmask: ops, strategies, mask helpers and attention.

The cases are plain mappings of callables and inputs: `compile_checks` reads them through the table
`[tool.compile_checks]` of pyproject.toml, and neither package imports the other.

The callables use dmask as a model does: they apply a mask to scores that require grad, and the
result is back-propagated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import dmask
import dmask.ops

BATCH, HEADS, KV_HEADS, QUERY_LEN, KEY_LEN, HEAD_DIM = 2, 4, 2, 6, 24, 8
WINDOW_SIZE = 16
KEY_LENS = (8, 12, 16, 17, 24, 40)
"""The lengths of a cache that grows past the window."""

_GATES = ("export", "opcheck", "pt2")

Case = dict[str, Any]
"""A case in plain form: the keys are those that `compile_checks` documents."""

_Masking = Callable[[Tensor, Tensor | None], Tensor]


def cases() -> list[Case]:
    """Returns all cases, with new inputs."""
    return [
        *_op_cases(),
        *_strategy_cases(),
        *_helper_cases(),
        *_growing_cases(),
        *_attention_cases(),
        *_selection_cases(),
    ]


def required() -> list[str]:
    """Returns what some case must cover: every registered op and strategy."""
    return [
        *(f"op {name}" for name in dmask.ops.op_names()),
        *(f"strategy {name}" for name in dmask.strategies()),
    ]


# ------------------------------------------------------------------ inputs


def _scores(*shape: int, grad: bool = True) -> Tensor:
    """Returns distinct scores around zero, by default as a learned bias."""
    count = torch.Size(shape).numel()
    return torch.linspace(-1.0, 1.0, count).view(shape).requires_grad_(grad)


def _mask(*shape: int) -> Tensor:
    """Returns a mask that allows two of three keys."""
    return (torch.arange(torch.Size(shape).numel()) % 3 != 0).view(shape)


# ------------------------------------------------------------------ ops, strategies, helpers


def _gathered(scores: Tensor, indices: Tensor) -> Tensor:
    return scores.gather(-1, indices.clamp(min=0).long())


def _sizes(scores: Tensor) -> tuple[int, int, int]:
    """Returns `batch_size`, `query_len` and `key_len`."""
    return scores.shape[0], scores.shape[2], scores.shape[3]


def _masking(api: Any) -> dict[str, _Masking]:
    """Returns a use of each mask function of `torch.ops.dmask` or of dmask, which are alike."""
    return {
        "block_smooth": lambda scores, mask: scores * api.block_smooth(scores > 0, 4, mask),
        "create_mask": lambda scores, mask: (
            scores * api.create_mask(scores, mask, *_sizes(scores), WINDOW_SIZE)
        ),
        "relu_mask": lambda scores, mask: scores * api.relu_mask(scores, mask),
        "topk_indices": lambda scores, mask: _gathered(
            scores, api.topk_indices(scores, mask, WINDOW_SIZE)
        ),
        "topk_mask": lambda scores, mask: scores * api.topk_mask(scores, mask, WINDOW_SIZE),
    }


def _strategy_ops() -> dict[str, _Masking]:
    """Returns a use of the op of each strategy that has no helper."""
    ops = torch.ops.dmask
    return {
        "block_topk_mask": lambda scores, mask: (
            scores * ops.block_topk_mask(scores, mask, WINDOW_SIZE, key_block=4)
        ),
        "ratio_mask": lambda scores, mask: scores * ops.ratio_mask(scores, mask, ratio=0.5),
        "topp_mask": lambda scores, mask: scores * ops.topp_mask(scores, mask, p=0.5),
    }


def _dynamic_mask(scores: Tensor, mask: Tensor | None) -> Tensor:
    return scores * dmask.dynamic_mask(scores, mask, WINDOW_SIZE, tie_break="lowest")


def _op_cases() -> Iterator[Case]:
    for name, fn in {**_masking(torch.ops.dmask), **_strategy_ops()}.items():
        yield from _variants(f"op {name}", fn, _mask(BATCH, 1, QUERY_LEN, KEY_LEN))


def _strategy_cases() -> Iterator[Case]:
    for name in ("block_topk", "ratio", "relu", "topk", "topp"):
        padding = _mask(BATCH, KEY_LEN)
        yield from _variants(f"strategy {name}", _created(name), padding)
        yield from _variants(f"strategy {name}, blocks", _created(name, block_size=4), padding)


def _created(type: str, block_size: int | None = None) -> _Masking:
    """Returns a function that applies the mask of a strategy."""

    def fn(scores: Tensor, mask: Tensor | None) -> Tensor:
        kept = dmask.create_mask(
            scores, mask, *_sizes(scores), WINDOW_SIZE, block_size=block_size, type=type
        )
        return scores.masked_fill(~kept, 0.0)

    return fn


def _variants(name: str, fn: _Masking, mask: Tensor) -> Iterator[Case]:
    covers = name.partition(",")[0]
    for suffix, given, dynamic in (
        ("no mask", None, None),
        ("mask", mask, None),
        ("mask, dynamic=True", mask, True),
    ):
        yield {
            "name": f"{name}, {suffix}",
            "fn": fn,
            "inputs": (_scores(BATCH, HEADS, QUERY_LEN, KEY_LEN), given),
            "dynamic": dynamic,
            "backward": True,
            "covers": covers,
            "gates": _GATES,
        }


def _helper_cases() -> Iterator[Case]:
    mask = _mask(BATCH, 1, QUERY_LEN, KEY_LEN)
    for name, fn in {**_masking(dmask), "dynamic_mask": _dynamic_mask}.items():
        inputs = (_scores(BATCH, HEADS, QUERY_LEN, KEY_LEN), mask)
        yield {"name": f"helper {name}", "fn": fn, "inputs": inputs, "backward": True}


# ------------------------------------------------------------------ recompiles


def _growing_cases() -> Iterator[Case]:
    """Yields a decode whose keys grow past the window, with a budget of graphs.

    With `dynamic=None`, shapes are static at first and dynamic after the first change: two graphs.
    `maybe_create_mask` needs one more by design, because it branches on the window.
    """
    bare = [(_scores(BATCH, 1, 1, key_len, grad=False), None) for key_len in KEY_LENS]
    padded = [(scores, _mask(BATCH, scores.shape[-1])) for scores, _ in bare]
    for prefix, inputs in (("growing", bare), ("growing, mask", padded)):
        for dynamic, graphs in ((None, 2), (True, 1)):
            end = prefix + (", dynamic=True" if dynamic else "")
            common = {"inputs": inputs, "dynamic": dynamic}
            for name, fn, more in (
                ("create_mask", _create, 0),
                ("maybe_create_mask", _maybe_create, 1),
            ):
                yield {"name": f"{name}, {end}", "fn": fn, "max_graphs": graphs + more, **common}


def _create(scores: Tensor, mask: Tensor | None) -> Tensor:
    return dmask.create_mask(scores, mask, *_sizes(scores), WINDOW_SIZE)


def _maybe_create(scores: Tensor, mask: Tensor | None) -> Tensor:
    kept = dmask.maybe_create_mask(scores, mask, *_sizes(scores), WINDOW_SIZE)
    if kept is None:
        return scores + 0.0
    return scores.masked_fill(~kept if kept.dim() == 4 else ~kept[:, None, None], 0.0)


# ------------------------------------------------------------------ attention


def _attention_cases() -> Iterator[Case]:
    for backend in ("sdpa", "eager"):
        for backward in (False, True):
            for variant, kv_heads, options in _attention_variants(backward):
                query = _scores(BATCH, HEADS, QUERY_LEN, HEAD_DIM, grad=backward)
                key = _scores(BATCH, kv_heads, KEY_LEN, HEAD_DIM, grad=backward)
                value = _scores(BATCH, kv_heads, KEY_LEN, HEAD_DIM, grad=backward)
                inputs = {"query": query, "key": key, "value": value, **options}
                yield {
                    "name": f"attention {backend}, {variant}{', backward' if backward else ''}",
                    "fn": dmask.dynamic_mask_attention,
                    "inputs": {**inputs, "backend": backend},
                    "backward": backward,
                    "gates": _GATES,
                }


def _attention_variants(grad: bool) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yields the name, the number of key/value heads and the options of each variant."""
    mask = {"attention_mask": _mask(BATCH, 1, QUERY_LEN, KEY_LEN)}
    padding = {"attention_mask": _mask(BATCH, KEY_LEN)}
    causal = {"is_causal": True}
    window = {
        "attention_bias": _scores(BATCH, KV_HEADS, 1, KEY_LEN, grad=grad),
        "window_size": WINDOW_SIZE,
    }
    yield "dense", HEADS, {}
    yield "causal", HEADS, causal
    yield "mask", HEADS, mask
    yield "window", HEADS, window
    yield "GQA", KV_HEADS, {}
    yield "GQA, window, padding", KV_HEADS, {**window, **padding}
    yield "GQA, window, causal", KV_HEADS, {**window, **causal}


# ------------------------------------------------------------------ selections


def _selection_cases() -> Iterator[Case]:
    lengths = torch.tensor([KEY_LEN, 9])
    for name, covers, fn in (
        ("to_mask", "op select", _masked),
        ("to_bias", "", lambda selected, scores: selected.to_bias(scores=True).softmax(dim=-1)),
        ("to_indices", "op kept_indices", lambda s, scores: _gathered(scores, s.to_indices())),
        ("to_block_mask", "op kept_blocks", _blocked),
        ("mask_from_indices", "op mask_from_indices", _there_and_back),
    ):
        for dynamic in (None, True):
            scores = _scores(BATCH, HEADS, QUERY_LEN, KEY_LEN)
            yield {
                "name": f"selection {name}{', dynamic=True' if dynamic else ''}",
                "fn": _selected(fn),
                "inputs": [(scores, None), (scores, lengths)],
                "dynamic": dynamic,
                "backward": True,
                "max_graphs": 2,  # one without and one with key_lengths: None is not a tensor
                "covers": covers,
                "gates": _GATES,
            }
    growing = [(_scores(BATCH, HEADS, 1, key_len), None) for key_len in KEY_LENS]
    for dynamic, graphs in ((None, 2), (True, 1)):
        yield {
            "name": f"selection, growing{', dynamic=True' if dynamic else ''}",
            "fn": _selected(_masked),
            "inputs": growing,
            "dynamic": dynamic,
            "backward": True,
            "max_graphs": graphs,
        }


def _selected(use: Callable[[dmask.Selection, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Returns a function that uses a selection of scores with every restriction."""

    def fn(scores: Tensor, lengths: Tensor | None) -> Tensor:
        selected = dmask.select(
            scores, WINDOW_SIZE, is_causal=True, key_lengths=lengths, sinks=2, local=3
        )
        return use(selected, scores)

    return fn


def _masked(selected: dmask.Selection, scores: Tensor) -> Tensor:
    return scores * selected.to_mask()


def _blocked(selected: dmask.Selection, scores: Tensor) -> Tensor:
    blocks: Tensor = selected.to_block_mask(4).kv_num_blocks
    return scores * blocks.sum()


def _there_and_back(selected: dmask.Selection, scores: Tensor) -> Tensor:
    return scores * dmask.mask_from_indices(selected.to_indices(), selected.key_len)
