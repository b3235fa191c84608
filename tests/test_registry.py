"""Strategies that users register."""

from __future__ import annotations

from collections.abc import Iterator

import expecttest
import pytest
import torch
from torch import Tensor

import dmask
from dmask import registry
from tests.conftest import Mode
from tests.support.scores import scores


def above(
    attention_bias: Tensor,
    attention_mask: Tensor | None,
    threshold: float = 0.5,
    strict: bool = True,
) -> Tensor:
    """Ignores the mask, which dmask applies."""
    return attention_bias > threshold if strict else attention_bias >= threshold


def first(
    attention_bias: Tensor, attention_mask: Tensor | None, window_size: int, unit: str = "keys"
) -> Tensor:
    assert unit in ("keys", "pairs")
    count = window_size * (2 if unit == "pairs" else 1)
    return (torch.arange(attention_bias.shape[-1]) < count)[None, None, None]


def floored(
    attention_bias: Tensor, attention_mask: Tensor | None, min_dtype: float | None = None
) -> Tensor:
    assert min_dtype is not None, "the floor arrives resolved"
    return attention_bias > min_dtype + 1


def numbered(attention_bias: Tensor, attention_mask: Tensor | None, count: int) -> Tensor:
    return torch.zeros_like(attention_bias, dtype=torch.bool)


STRATEGIES = {"above": above, "first": first, "floored": floored, "numbered": numbered}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    try:
        for name, function in STRATEGIES.items():
            dmask.register_strategy(name, function)
        yield
    finally:
        for name in STRATEGIES:
            if name in dmask.strategies():
                dmask.unregister_strategy(name)


BIAS = scores(1, 2, 3, 16)


def create(type: str, window_size: int | None = None, **kwargs: object) -> Tensor:
    mask = torch.tensor([[False] * 4 + [True] * 12])
    return dmask.create_mask(BIAS, mask, 1, 3, 16, window_size, type=type, **kwargs)


def test_a_strategy_is_listed_and_has_an_op() -> None:
    builtin = {"block_topk", "ratio", "relu", "topk", "topp"}
    assert dmask.strategies() == tuple(sorted(builtin | set(STRATEGIES)))
    expecttest.assert_expected_inline(
        "\n".join(
            str(getattr(torch.ops.dmask, f"{name}_mask").default._schema) for name in STRATEGIES
        ),
        """\
dmask::above_mask(Tensor attention_bias, Tensor? attention_mask, float threshold=0.5, bool strict=True) -> Tensor
dmask::first_mask(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, str unit="keys") -> Tensor
dmask::floored_mask(Tensor attention_bias, Tensor? attention_mask, float? min_dtype=None) -> Tensor
dmask::numbered_mask(Tensor attention_bias, Tensor? attention_mask, SymInt count) -> Tensor""",
    )


def test_a_strategy_compiles_and_forbidden_keys_stay_out(mode: Mode) -> None:
    got = mode(create)("above", options={"threshold": 0.25})
    expected = BIAS > 0.25
    expected[..., :4] = False
    assert torch.equal(got, expected)


def test_the_op_of_a_strategy_enforces_the_rule_too(mode: Mode) -> None:
    bias = torch.tensor([[[[1.0, 2.0, -float("inf"), 0.2]]]])
    allowed = torch.tensor([[[[False, True, True, True]]]])
    got = mode(torch.ops.dmask.first_mask)(bias, allowed, 3)
    assert got.flatten().tolist() == [False, True, False, False]
    torch.library.opcheck(torch.ops.dmask.first_mask.default, (bias, allowed, 3))
    torch.library.opcheck(torch.ops.dmask.above_mask.default, (bias, None, 1.5), {})


def test_a_result_that_is_the_input_is_copied() -> None:
    def same(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
        assert attention_mask is not None
        return attention_mask

    dmask.register_strategy("same", same)
    try:
        mask = torch.ones(1, 1, 1, 4, dtype=torch.bool)
        got = torch.ops.dmask.same_mask(scores(1, 1, 1, 4), mask)
        assert got.data_ptr() != mask.data_ptr()
    finally:
        dmask.unregister_strategy("same")


def test_create_mask_passes_its_arguments_on(mode: Mode) -> None:
    assert mode(create)("first", 6)[0, 0, 0].tolist() == [False] * 4 + [True] * 2 + [False] * 10
    assert mode(create)("first", 4, options={"unit": "pairs"}).sum() == 2 * 3 * 4
    assert torch.equal(
        mode(create)("floored", min_dtype=-0.5),
        (BIAS > 0.5) & (torch.arange(16) >= 4),
    )


def test_vmap_of_a_strategy() -> None:
    biases = scores(5, 1, 2, 3, 16)
    got = torch.func.vmap(torch.ops.dmask.above_mask, in_dims=(0, None))(biases, None)
    assert torch.equal(got, biases > 0.5)


def test_options_round_trip_exactly() -> None:
    value = 0.1 + 0.2
    options = {"threshold": value, "strict": False}
    encoded = registry.encode_options(options)
    assert registry.decode_options(registry.get_strategy("above"), encoded) == options


def bad_result(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
    return attention_bias


def bad_shape(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
    return torch.ones(7, dtype=torch.bool)


def untyped(attention_bias, attention_mask):
    return attention_bias > 0


def no_mask(attention_bias: Tensor) -> Tensor:
    return attention_bias > 0


def odd_option(attention_bias: Tensor, attention_mask: Tensor | None, keys: list[int]) -> Tensor:
    return attention_bias > 0


def test_the_texts() -> None:
    def registered(name: str, function: object) -> None:
        dmask.register_strategy(name, function)
        try:
            create(name)
        finally:
            dmask.unregister_strategy(name)

    calls = {
        "typo in an option": lambda: create("above", options={"treshold": 1.0}),
        "wrong type of option": lambda: create("above", options={"threshold": "high"}),
        "wrong bool": lambda: create("above", options={"strict": 1}),
        "missing option": lambda: create("numbered"),
        "fraction for an int": lambda: create("numbered", options={"count": 1.5}),
        "missing window": lambda: create("first"),
        "duplicate": lambda: dmask.register_strategy("above", above),
        "duplicate of a built-in": lambda: dmask.register_strategy("topk", above),
        "name of another op": lambda: dmask.register_strategy("create", above),
        "no identifier": lambda: dmask.register_strategy("top-k", above),
        "unknown": lambda: dmask.unregister_strategy("nobody"),
        "built-in": lambda: dmask.unregister_strategy("topk"),
        "untyped": lambda: dmask.register_strategy("untyped", untyped),
        "no mask": lambda: dmask.register_strategy("no_mask", no_mask),
        "odd option": lambda: dmask.register_strategy("odd_option", odd_option),
        "float result": lambda: registered("bad_result", bad_result),
        "result of another shape": lambda: registered("bad_shape", bad_shape),
    }
    lines = []
    for name, call in calls.items():
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        text = str(caught.value).split(" Got func with signature")[0]
        lines.append(f"{name}\n    {caught.type.__name__}: {text}")
    expecttest.assert_expected_inline(
        "\n".join(lines),
        """\
typo in an option
    ValueError: unknown 'above' option 'treshold'; expected one of ('threshold', 'strict')
wrong type of option
    ValueError: 'above' option 'threshold' must be float, got 'high'
wrong bool
    ValueError: 'above' option 'strict' must be bool, got '1'
missing option
    ValueError: type 'numbered' requires the options ('count',)
fraction for an int
    ValueError: 'numbered' option 'count' must be int, got '1.5'
missing window
    ValueError: type 'first' requires window_size, got None
duplicate
    ValueError: type 'above' is already registered; registered types are ('above', 'block_topk', 'first', 'floored', 'numbered', 'ratio', 'relu', 'topk', 'topp')
duplicate of a built-in
    ValueError: type 'topk' is already registered; registered types are ('above', 'block_topk', 'first', 'floored', 'numbered', 'ratio', 'relu', 'topk', 'topp')
name of another op
    ValueError: type must be an identifier, and op dmask::<type>_mask must not exist, got 'create'
no identifier
    ValueError: type must be an identifier, and op dmask::<type>_mask must not exist, got 'top-k'
unknown
    ValueError: unknown type 'nobody'; expected one of ('above', 'block_topk', 'first', 'floored', 'numbered', 'ratio', 'relu', 'topk', 'topp')
built-in
    ValueError: type 'topk' is built in and cannot be unregistered
untyped
    ValueError: strategy 'untyped' must be a function (attention_bias: Tensor, attention_mask: Tensor | None, ...options) -> Tensor, got (attention_bias, attention_mask): infer_schema(func): Parameter attention_bias must have a type annotation.
no mask
    ValueError: strategy 'no_mask' must be a function (attention_bias: Tensor, attention_mask: Tensor | None, ...options) -> Tensor, got (Tensor attention_bias) -> Tensor: a bias and an optional mask must come first
odd option
    ValueError: strategy 'odd_option' must be a function (attention_bias: Tensor, attention_mask: Tensor | None, ...options) -> Tensor, got (Tensor attention_bias, Tensor? attention_mask, SymInt[] keys) -> Tensor: options ['keys'] must be int, float, bool or str
float result
    TypeError: strategy 'bad_result' must return a bool tensor, got torch.float32
result of another shape
    ValueError: strategy 'bad_shape' must return a mask that broadcasts to (1, 2, 3, 16), got shape (7,)""",
    )


def test_a_name_can_be_registered_again() -> None:
    def below(attention_bias: Tensor, attention_mask: Tensor | None, limit: float = 0.0) -> Tensor:
        return attention_bias < limit

    before = create("above")
    dmask.unregister_strategy("above")
    assert not hasattr(torch.ops.dmask, "above_mask")
    with pytest.raises(ValueError, match="unknown type 'above'"):
        create("above")
    dmask.register_strategy("above", below)
    assert not torch.equal(create("above"), before)
    assert torch.equal(torch.ops.dmask.above_mask(scores(1, 1, 2, 8), None), scores(1, 1, 2, 8) < 0)
