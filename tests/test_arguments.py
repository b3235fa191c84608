"""Passes odd values for every argument of every public function.

Each call either raises an error that names the argument, or returns the same result as an equivalent
valid value, in eager and compiled mode.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmask

BIAS = torch.linspace(-1.0, 1.0, 2 * 2 * 3 * 8).view(2, 2, 3, 8)
MASK = torch.arange(8)[None].expand(2, 8) != 3
MASK_4D = MASK[:, None, None]
QUERY = torch.linspace(-1.0, 1.0, 2 * 4 * 3 * 8).view(2, 4, 3, 8)

_CREATE = {
    "attention_bias": BIAS,
    "attention_mask": MASK,
    "batch_size": 2,
    "query_len": 3,
    "key_len": 8,
    "window_size": 4,
    "min_dtype": -0.5,
    "block_size": 2,
    "type": "topk",
    "tie_break": "torch",
    "options": None,
}
_TOPK = {
    "attention_bias": BIAS,
    "attention_mask": MASK_4D,
    "window_size": 4,
    "min_dtype": -0.5,
    "tie_break": "torch",
}
_SELECT = {
    "attention_bias": BIAS,
    "window_size": 4,
    "attention_mask": MASK,
    "is_causal": True,
    "query_len": 3,
    "key_lengths": torch.tensor([8, 5]),
    "sinks": 1,
    "local": 1,
    "min_dtype": -0.5,
    "key_ranges": None,
}
_RANGES = torch.tensor([[0, 1, 4]]), torch.tensor([[5, 2, 8]])
_STARTS = torch.tensor([0, 2, 3])


def selected() -> dmask.Selection:
    return dmask.select(BIAS, 4, is_causal=True)


def to_bias(scores: Any, dtype: Any) -> torch.Tensor:
    return selected().to_bias(scores=scores, dtype=dtype)


def to_block_mask(BLOCK_SIZE: Any, num_heads: Any) -> torch.Tensor:  # noqa: N803
    return selected().to_block_mask(BLOCK_SIZE, num_heads).kv_num_blocks


def to_indices(fill: Any, multiple_of: Any, relative: Any) -> torch.Tensor:
    inside = dmask.select(BIAS, 4, key_ranges=_RANGES)
    return inside.to_indices(fill=fill, multiple_of=multiple_of, relative=relative)


def to_block_map(block_size: Any) -> torch.Tensor:
    return selected().to_block_map(block_size)


def mask_mod(num_heads: Any) -> torch.Tensor:
    place = [torch.tensor(0)] * 4
    return selected().mask_mod(num_heads)(*place)


def select(**arguments: Any) -> torch.Tensor:
    return dmask.select(**arguments).to_mask()


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "create_mask": (dmask.create_mask, _CREATE),
    "maybe_create_mask": (dmask.maybe_create_mask, _CREATE),
    "topk_mask": (dmask.topk_mask, _TOPK),
    "dynamic_mask": (dmask.dynamic_mask, _TOPK),
    "topk_indices": (dmask.topk_indices, {k: v for k, v in _TOPK.items() if k != "tie_break"}),
    "relu_mask": (
        dmask.relu_mask,
        {"attention_bias": BIAS, "attention_mask": MASK_4D, "min_dtype": -0.5},
    ),
    "block_smooth": (
        dmask.block_smooth,
        {"mask": BIAS > 0, "block_size": 2, "attention_mask": MASK_4D},
    ),
    "select": (select, _SELECT),
    "select.key_ranges": (
        select,
        _SELECT | {"is_causal": False, "key_lengths": None, "key_ranges": _RANGES},
    ),
    "packed_ranges": (
        dmask.packed_ranges,
        {"cu_seqlens_q": _STARTS, "cu_seqlens_k": _STARTS, "total_q": 3, "is_causal": True},
    ),
    "sparse_attention": (
        dmask.sparse_attention,
        {
            "query": QUERY,
            "key": BIAS,
            "value": BIAS,
            "indices": torch.tensor([[[[0, 2, -1]]]]),
            "attention_bias": BIAS[..., :3],
            "scale": 0.5,
        },
    ),
    "indexer_topk": (
        dmask.indexer_topk,
        {
            "index_query": QUERY.transpose(1, 2),
            "index_key": BIAS[:, 0].repeat(1, 3, 1),
            "index_weights": QUERY[..., 0].transpose(1, 2),
            "window_size": 4,
            "scale": 0.5,
            "activation": "relu",
            "attention_mask": torch.arange(9)[None] != 3,
            "is_causal": True,
            "key_lengths": torch.tensor([9, 5]),
            "sinks": 1,
            "local": 1,
            "min_dtype": -0.5,
            "key_ranges": None,
        },
    ),
    "page_indices": (
        dmask.page_indices,
        {
            "indices": torch.tensor([[3, -1], [4, 0]]),
            "page_table": torch.tensor([[5, 9], [2, 7]]),
            "page_size": 4,
        },
    ),
    "mask_from_indices": (
        dmask.mask_from_indices,
        {
            "indices": torch.tensor([[[[0, 2, -1]]]]),
            "key_len": 8,
            "block_size": 2,
            "attention_mask": MASK_4D,
            "fill": -0.5,
            "dtype": torch.float64,
            "out_of_range": "ignore",
        },
    ),
    "dynamic_mask_attention": (
        dmask.dynamic_mask_attention,
        {
            "query": QUERY,
            "key": BIAS,
            "value": BIAS,
            "attention_bias": BIAS[..., :3],
            "attention_mask": None,
            "window_size": 2,
            "is_causal": True,
            "scale": 0.5,
            "backend": "sdpa",
        },
    ),
    "Selection.to_bias": (to_bias, {"scores": True, "dtype": torch.float64}),
    "Selection.to_block_mask": (to_block_mask, {"BLOCK_SIZE": 4, "num_heads": 4}),
    "Selection.to_block_map": (to_block_map, {"block_size": 4}),
    "Selection.to_indices": (to_indices, {"fill": 8, "multiple_of": 16, "relative": True}),
    "Selection.mask_mod": (mask_mod, {"num_heads": 4}),
}
CALLS["dynamic_mask_attention"][1]["key"] = CALLS["dynamic_mask_attention"][1]["value"] = (
    BIAS[..., :8].transpose(2, 3).reshape(2, 2, 8, 3)[:, :, :3].repeat(1, 1, 1, 3)[..., :8]
)
"""A valid call to each public function that passes every argument."""

ODD: dict[str, Any] = {
    "float": 2.5,
    "whole float": 4.0,
    "bool": True,
    "tensor": torch.tensor(4),
    "tensor of floats": torch.tensor([0.5]),
    "list": [4],
    "tuple": (1, 2, 3),
    "dict": {"a": 1},
    "None": None,
    "text": "a",
    "bytes": b"a",
    "array": np.ones(2),
    "negative": -7,
    "zero": 0,
    "huge": 2**70,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "complex": 1j,
    "object": object(),
    "function": len,
    "type": int,
}
NUMPY = {int: np.int32, float: np.float32}

PLACES = [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]


def test_every_argument_of_every_public_function_is_tried() -> None:
    public = {name for name in dmask.__all__ if inspect.isfunction(getattr(dmask, name))}
    untried = public - {name.partition(".")[0] for name in CALLS}
    assert untried == {"register_strategy", "strategies", "unregister_strategy"}
    for name in public & set(CALLS):
        assert list(inspect.signature(getattr(dmask, name)).parameters) == list(CALLS[name][1])


def outcome(fn: Callable[..., Any], arguments: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "result", fn(**arguments)
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)


def check(name: str, argument: str, value: Any) -> tuple[str, Any]:
    """Returns the outcome of a call with one odd argument. An error must name the argument."""
    fn, right = CALLS[name]
    kind, result = outcome(fn, right | {argument: value})
    if kind != "result":
        assert names(result, argument), result
        for raw in ("incompatible function", "must be Tensor, not", "expected at most", "schema"):
            assert raw not in result, result
    return kind, result


def names(text: str, argument: str) -> bool:
    """True if an error names the argument.

    For `key_len` and `block_size`, the error may name only the indices that they limit.
    """
    by_indices = argument in ("key_len", "block_size") and "indices" in text
    return by_indices or argument.removesuffix("s") in text


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_odd_values(name: str, argument: str, odd: str) -> None:
    check(name, argument, ODD[odd])


NUMBERS = [place for place in PLACES if type(CALLS[place[0]][1][place[1]]) in NUMPY]


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_numpy_scalars_are_accepted_in_eager_mode_only(name: str, argument: str) -> None:
    fn, right = CALLS[name]
    number = NUMPY[type(right[argument])](right[argument])
    assert number == right[argument]

    def odd() -> Any:
        return fn(**right | {argument: number})

    torch.testing.assert_close(odd(), fn(**right))
    # Dynamo treats a NumPy scalar as an array: its value is only known when the graph runs.
    with pytest.raises(Exception, match=rf"{argument} must be .* pass \w+\({argument}\)"):
        torch.compile(odd, fullgraph=True, backend="eager")()


@settings(max_examples=300)
@given(
    st.sampled_from(PLACES),
    st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=3)),
)
def test_any_value(place: tuple[str, str], value: Any) -> None:
    if isinstance(value, int) and value > 10**4:
        return  # valid, but its indices do not fit in memory
    check(*place, value)


COMPILED = ["float", "whole float", "tensor", "list", "None", "text", "negative", "zero"]


@pytest.mark.parametrize("odd", COMPILED)
@pytest.mark.parametrize("name", CALLS)
def test_compiled_fails_as_eager_does(name: str, odd: str) -> None:
    fn, right = CALLS[name]
    for argument in right:
        arguments = right | {argument: ODD[odd]}
        kind, eager = outcome(fn, arguments)
        torch.compiler.reset()
        compiled = torch.compile(lambda: fn(**arguments), fullgraph=True, backend="eager")  # noqa: B023
        if kind == "result":
            torch.testing.assert_close(compiled(), eager)
            continue
        with pytest.raises(Exception) as caught:  # noqa: PT011  (the exception type Dynamo raises varies)
            compiled()
        text = str(caught.value).replace("\\'", "'").replace('\\"', '"')
        assert eager in text, (argument, eager, text)
