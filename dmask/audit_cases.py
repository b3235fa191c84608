"""Cases for the graph-break audit of dmask: ops, strategies, mask helpers and attention.

The cases are plain mappings of callables and inputs: `compile_checks` reads them through the table
`[tool.compile_checks]` of pyproject.toml, and neither package imports the other. To audit an
installed dmask, run
`python -m compile_checks dmask.audit_cases:cases --required dmask.audit_cases:required`.

The cases of ops come from `dmask.samples`. The others use dmask as a model does: they apply a mask
to scores that require grad and back-propagate the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

import dmask
import dmask.ops
from dmask import samples
from dmask.samples import BATCH, HEADS, KEY_LEN, QUERY_LEN, SHAPE, WINDOW_SIZE, Sample

KV_HEADS, HEAD_DIM = 2, 8
KEY_LENS = (8, 12, 16, 17, 24, 40)
"""The lengths of a cache that grows past the window."""

_GATES = ("export", "opcheck", "pt2")

Case = dict[str, Any]
"""A case as a mapping, with the keys that `compile_checks` documents."""

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
        *_layout_cases(),
    ]


def required() -> list[str]:
    """Returns the names that cases must cover: every registered op and strategy."""
    return [
        *(f"op {name}" for name in dmask.ops.op_names()),
        *(f"strategy {name}" for name in dmask.strategies()),
    ]


# ------------------------------------------------------------------ ops


def _op_cases() -> Iterator[Case]:
    """Yields a case for each sample of every op, and repeats the last one with `dynamic=True`."""
    for op, named in samples.SAMPLES.items():
        for name, make in named.items():
            yield _op_case(op, name, make())
        yield {**_op_case(op, f"{name}, dynamic=True", make()), "dynamic": True}


def _op_case(op: str, name: str, sample: Sample) -> Case:
    takes_scores = sample.args[0].is_floating_point()
    scores = sample.args[0] if takes_scores else samples.scores(*SHAPE)
    others = sample.args[1:] if takes_scores else sample.args
    return {
        "name": f"op {op}, {name}",
        "fn": _applied(op, takes_scores, sample.kwargs),
        "inputs": (scores.requires_grad_(), *others),
        "backward": True,
        "covers": f"op {op}",
        "gates": _GATES,
    }


def _applied(op: str, takes_scores: bool, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns a function that applies an op and uses the result with scores that require grad."""
    call = getattr(torch.ops.dmask, op)

    def fn(scores: Tensor, *args: Any) -> tuple[Tensor, ...]:
        result = call(scores, *args, **options) if takes_scores else call(*args, **options)
        results = (result,) if isinstance(result, Tensor) else result
        return scores * sum(each.sum() for each in results), *results

    return fn


# ------------------------------------------------------------------ strategies and helpers


def _scores(*shape: int, grad: bool = True) -> Tensor:
    """Returns scores. By default they require grad, like a learned bias."""
    return samples.scores(*shape).requires_grad_(grad)


def _gathered(scores: Tensor, indices: Tensor) -> Tensor:
    return scores.gather(-1, indices.clamp(min=0).long())


def _sizes(scores: Tensor) -> tuple[int, int, int]:
    """Returns `batch_size`, `query_len` and `key_len`."""
    return scores.shape[0], scores.shape[2], scores.shape[3]


def _strategy_cases() -> Iterator[Case]:
    for name in (strategy.name for strategy in dmask.ops.STRATEGIES):
        padding = samples.mask(BATCH, KEY_LEN)
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
            "inputs": (_scores(*SHAPE), given),
            "dynamic": dynamic,
            "backward": True,
            "covers": covers,
            "gates": _GATES,
        }


def _helper_cases() -> Iterator[Case]:
    for name, fn in _helpers().items():
        inputs = (_scores(*SHAPE), samples.mask_4d())
        yield {"name": f"helper {name}", "fn": fn, "inputs": inputs, "backward": True}


def _helpers() -> dict[str, _Masking]:
    """Returns a use of each mask function."""
    return {
        "block_smooth": lambda scores, mask: scores * dmask.block_smooth(scores > 0, 4, mask),
        "create_mask": lambda scores, mask: (
            scores * dmask.create_mask(scores, mask, *_sizes(scores), WINDOW_SIZE)
        ),
        "relu_mask": lambda scores, mask: scores * dmask.relu_mask(scores, mask),
        "topk_indices": lambda scores, mask: _gathered(
            scores, dmask.topk_indices(scores, mask, WINDOW_SIZE)
        ),
        "topk_mask": lambda scores, mask: scores * dmask.topk_mask(scores, mask, WINDOW_SIZE),
        "dynamic_mask": lambda scores, mask: (
            scores * dmask.dynamic_mask(scores, mask, WINDOW_SIZE, tie_break="lowest")
        ),
    }


# ------------------------------------------------------------------ recompiles


def _growing_cases() -> Iterator[Case]:
    """Yields decoding cases whose keys grow past the window, each with a budget of graphs.

    With `dynamic=None`, shapes are static at first and dynamic after the first change: two graphs.
    `maybe_create_mask` needs one more graph by design, because it branches on the window.
    """
    bare = [(_scores(BATCH, 1, 1, key_len, grad=False), None) for key_len in KEY_LENS]
    padded = [(scores, samples.mask(BATCH, scores.shape[-1])) for scores, _ in bare]
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
    for backend in ("sdpa", "eager", "gather"):
        for backward in (False, True):
            for variant, kv_heads, options in _attention_variants(backward):
                if backend == "gather" and "window_size" not in options:
                    continue
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
    mask = {"attention_mask": samples.mask_4d()}
    padding = {"attention_mask": samples.mask(BATCH, KEY_LEN)}
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
        ("counts", "", lambda selected, scores: scores / selected.counts()[..., None]),
        ("to_bitmask", "", lambda selected, scores: scores * selected.to_bitmask().sum()),
        ("to_block_map", "", lambda selected, scores: scores * selected.to_block_map(4).sum()),
        ("to_block_mask", "op kept_blocks", _blocked),
        ("mask_from_indices", "op mask_from_indices", _there_and_back),
    ):
        for dynamic in (None, True):
            scores = _scores(*SHAPE)
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


def _layout_cases() -> Iterator[Case]:
    """Yields a packed batch in a paged cache, with tensors whose sizes may change."""
    starts = torch.tensor([0, 2, QUERY_LEN])
    for dynamic in (None, True):
        inputs = (_scores(1, HEADS, QUERY_LEN, KEY_LEN), starts, starts * 4, torch.arange(6)[None])
        yield {
            "name": f"packed sequences{', dynamic=True' if dynamic else ''}",
            "fn": _packed,
            "inputs": inputs,
            "dynamic": dynamic,
            "backward": True,
            "gates": _GATES,
        }


def _packed(scores: Tensor, queries: Tensor, keys: Tensor, page_table: Tensor) -> Tensor:
    ranges = dmask.packed_ranges(queries, keys, scores.shape[2], is_causal=True)
    selected = dmask.select(scores, WINDOW_SIZE, key_ranges=ranges, sinks=2, local=3)
    indices = dmask.page_indices(selected.to_indices(), page_table, 4)
    return _gathered(scores, indices).sum() + selected.to_indices(relative=True)


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
