"""Small inputs that once gave wrong results, and similar inputs."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dmask
from tests.conftest import Mode

ROW = torch.tensor([0.3, 0.1, 0.2, 0.4]).view(1, 1, 1, 4)


# ------------------------------------------------------------------ cached plans


@pytest.mark.parametrize("wrong", [2.0, True, torch.tensor(2), [2]])
def test_a_wrong_call_spoils_no_right_one(wrong: Any) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="window_size must be an int or None, got"):
            dmask.create_mask(ROW, None, 1, 1, 4, wrong)
        assert dmask.create_mask(ROW, None, 1, 1, 4, 2).flatten().tolist() == [
            True,
            False,
            False,
            True,
        ]
        assert dmask.create_mask(ROW, None, 1, 1, 4, np.int64(2)).sum() == 2


def test_a_floor_of_any_number_type_is_one_floor() -> None:
    for floor in (0, 0.0, -0.0, np.float32(0)):
        assert dmask.create_mask(ROW - 0.25, None, 1, 1, 4, 4, floor).sum() == 2


# ------------------------------------------------------------------ block means


@pytest.mark.parametrize(
    ("dtype", "scores"),
    [
        (torch.float64, [1.0, 1.0, 1 + 2.0**-30, 1 + 2.0**-30, 0, 0]),
        (torch.float64, [1e308, 1.2e308, 1.4e308, 1.4e308, 0, 0]),
        (torch.float32, [3e38, 2e38, 3e38, 3e38, 0, 0]),
        (torch.float16, [60000.0, 60000.0, 60000.0, 60032.0, 0, 0]),
        (torch.bfloat16, [3e38, 2e38, 3e38, 3e38, 0, 0]),
        (torch.float64, [-1e308, -1.7e308, -1e308, -1e308, -1.7e308, -1.7e308]),
    ],
)
def test_block_means_are_exact_enough_and_never_overflow(
    dtype: torch.dtype, scores: list[float], mode: Mode
) -> None:
    """The last block is at the row's position; the second block has the better mean."""
    bias = torch.tensor(scores, dtype=torch.float64).to(dtype).view(1, 1, 1, 6)

    def make(bias: Tensor) -> Tensor:
        options = {"key_block": 2, "pool": "mean"}
        return dmask.create_mask(bias, None, 1, 1, 6, 4, type="block_topk", options=options)

    assert mode(make)(bias).flatten().tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("mask", [None, "padding", "4-D"])
@pytest.mark.parametrize("block_size", [None, 4])
def test_each_query_keeps_its_own_block(
    mask: str | None, block_size: int | None, mode: Mode
) -> None:
    bias = torch.arange(16, 0, -1.0).view(1, 1, 1, 16)
    given = {
        None: None,
        "padding": torch.ones(1, 16, dtype=torch.bool),
        "4-D": torch.ones(1, 1, 16, 16, dtype=torch.bool).tril(),
    }[mask]

    def make(bias: Tensor) -> Tensor:
        options = {"key_block": 4}
        return dmask.create_mask(
            bias, given, 1, 16, 16, 4, block_size=block_size, type="block_topk", options=options
        )

    kept = mode(make)(bias)
    assert kept.shape == (1, 1, 16, 16)
    for query in range(16):
        own = kept[0, 0, query, query // 4 * 4 : query + 1]
        assert own.all() or block_size == 4  # smoothing also counts forbidden keys
    # The op has no argument for the number of queries: one row, the last one.
    assert torch.ops.dmask.block_topk_mask(bias, None, 4, key_block=4).shape == (1, 1, 1, 16)


# ------------------------------------------------------------------ options


@pytest.mark.parametrize("names", ["a,names=c", "a,b", "a=b", "", "%", "%2C", "x\ny", "é=,", "a"])
def test_text_options_arrive_as_they_are(names: str, mode: Mode) -> None:
    seen: list[str] = []

    def pick(attention_bias: Tensor, attention_mask: Tensor | None, names: str = "d,e=f") -> Tensor:
        seen.append(names)
        return attention_bias > 0

    dmask.register_strategy("pick", pick)
    try:
        mode(
            lambda: dmask.create_mask(
                ROW, None, 1, 1, 4, None, type="pick", options={"names": names}
            )
        )()
        assert set(seen) == {names}
        dmask.create_mask(ROW, None, 1, 1, 4, None, type="pick")
        assert seen[-1] == "d,e=f"
    finally:
        dmask.unregister_strategy("pick")


def test_a_default_that_no_schema_can_hold_is_an_error() -> None:
    def pick(attention_bias: Tensor, attention_mask: Tensor | None, names: str = 'a"b') -> Tensor:
        return attention_bias > 0

    with pytest.raises(ValueError, match="the default of names must not contain quotes"):
        dmask.register_strategy("pick", pick)


# ------------------------------------------------------------------ additive integer masks

ADDITIVE = torch.tensor([0, 0, -10000, -10000])
MASKED: dict[str, Callable[[Tensor], Any]] = {
    "create_mask": lambda mask: dmask.create_mask(ROW, mask.view(1, 4), 1, 1, 4, 2),
    "create_mask, 4-D": lambda mask: dmask.create_mask(ROW, mask.view(1, 1, 1, 4), 1, 1, 4, 2),
    "create_mask, relu": lambda mask: dmask.create_mask(
        ROW, mask.view(1, 4), 1, 1, 4, None, type="relu"
    ),
    "create_mask, smoothed": lambda mask: dmask.create_mask(
        ROW, mask.view(1, 4), 1, 1, 4, 2, block_size=2
    ),
    "topk_mask": lambda mask: dmask.topk_mask(ROW, mask.view(1, 1, 1, 4), 2),
    "topk_indices": lambda mask: dmask.topk_indices(ROW, mask.view(1, 1, 1, 4), 2),
    "relu_mask": lambda mask: dmask.relu_mask(ROW, mask.view(1, 1, 1, 4)),
    "block_smooth": lambda mask: dmask.block_smooth(ROW > 0, 2, mask.view(1, 1, 1, 4)),
    "select": lambda mask: dmask.select(ROW, 2, attention_mask=mask.view(1, 4)).to_mask(),
    "mask_from_indices": lambda mask: dmask.mask_from_indices(
        torch.tensor([[[[0, 1]]]]), 4, attention_mask=mask.view(1, 1, 1, 4)
    ),
    "attention": lambda mask: dmask.dynamic_mask_attention(
        ROW.mT, ROW.mT, ROW.mT, attention_mask=mask.view(1, 4)
    ),
    "attention, causal": lambda mask: dmask.dynamic_mask_attention(
        ROW.mT, ROW.mT, ROW.mT, attention_mask=mask.view(1, 4), is_causal=True
    ),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.uint8])
def test_integer_masks_hold_zeros_and_ones(name: str, dtype: torch.dtype, mode: Mode) -> None:
    call = MASKED[name]
    wrong = ADDITIVE.to(dtype) if dtype in (torch.int64, torch.int32) else ADDITIVE.sign().to(dtype)
    with pytest.raises(ValueError, match="convert an additive mask with `attention_mask == 0`"):
        mode(call)(wrong)
    right = (ADDITIVE == 0).to(dtype)
    torch.testing.assert_close(mode(call)(right), call(ADDITIVE == 0))


def test_a_small_mask_of_inductor_checks_its_values() -> None:
    compiled = torch.compile(MASKED["create_mask"], fullgraph=True)
    assert torch.equal(compiled((ADDITIVE == 0).long()), MASKED["create_mask"](ADDITIVE == 0))
    with pytest.raises(RuntimeError, match="convert an additive mask"):
        compiled(ADDITIVE)


# ------------------------------------------------------------------ attention


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_attention_with_dynamic_heads(backend: str) -> None:
    compiled = torch.compile(
        lambda q, k, s: dmask.dynamic_mask_attention(q, k, k, s, window_size=4, backend=backend),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for heads in (4, 6):
        q, k, s = torch.randn(2, heads, 9, 4), torch.randn(2, 2, 9, 4), torch.randn(2, 2, 1, 9)
        wanted = dmask.dynamic_mask_attention(q, k, k, s, window_size=4, backend=backend)
        torch.testing.assert_close(compiled(q, k, s), wanted)


def test_eager_attention_in_double_passes_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in [(1, 2, 4, 3)] * 3 + [(1, 2, 1, 4)]
    ]

    def attend(*tensors: Tensor) -> Tensor:
        return dmask.dynamic_mask_attention(*tensors, window_size=2, backend="eager")

    assert torch.autograd.gradcheck(attend, tensors)


# ------------------------------------------------------------------ selections


def test_every_form_has_a_row_per_query(mode: Mode) -> None:
    bias = torch.linspace(0, 1, 16).view(1, 2, 1, 8)

    def forms(bias: Tensor) -> tuple[Tensor, ...]:
        kept = dmask.select(bias, 2, query_len=3)
        return kept.to_mask(), kept.to_bias(), kept.to_bias(scores=True), kept.to_indices()

    mask, additive, carried, indices = mode(forms)(bias)
    assert mask.shape == additive.shape == carried.shape == (1, 2, 3, 8)
    assert indices.shape == (1, 2, 3, 2)


# ------------------------------------------------------------------ the floor

FLOATS = [
    getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "float8_e5m2", "float8_e4m3fn"),
        *("float8_e5m2fnuz", "float8_e4m3fnuz"),
    )
]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_floor_is_rounded_to_the_dtype(dtype: torch.dtype) -> None:
    if torch.finfo(dtype).bits < 64:
        zeros = torch.zeros(1, 1, 1, 2).to(dtype)
        assert not dmask.topk_mask(zeros, None, 1, -1e-300).any()
        assert not dmask.select(zeros, 1, min_dtype=-1e-300).to_mask().any()
        assert not dmask.relu_mask(zeros, None, -1e-300).any()
    numbers = torch.linspace(-3, 3, 41, dtype=torch.float64).float()
    for number in numbers.tolist():
        rounded = torch.tensor(number, dtype=torch.float32).to(dtype).double().item()
        assert dmask.validation.floor_of(number, dtype) == rounded


def test_the_floor_of_extremes() -> None:
    floor_of = dmask.validation.floor_of
    for dtype in FLOATS:
        limits = torch.finfo(dtype)
        for number in (limits.max, limits.min, limits.smallest_normal, 0.0):
            assert floor_of(number, dtype) == number
        assert floor_of(-math.inf, dtype) == -math.inf
    assert math.copysign(1, floor_of(-0.0, torch.float16)) == -1


# ------------------------------------------------------------------ blocks larger than the row


@pytest.mark.parametrize("size", [17, 2**14, 2**31, 2**62])
def test_a_block_larger_than_the_row_is_the_row(size: int) -> None:
    bias = torch.linspace(0, 1, 64).view(1, 1, 4, 16)
    kept = dmask.select(bias, 2)
    for block_size in (size, (2, size), (size, 4)):
        blocks = kept.to_block_mask(block_size)
        assert blocks.kv_num_blocks.sum() > 0
        assert blocks.full_kv_num_blocks.sum() == 0
    mask = kept.to_mask()
    assert torch.equal(dmask.block_smooth(mask, size), dmask.block_smooth(mask, 16))
    assert dmask.mask_from_indices(torch.tensor([[[[0]]]]), 16, block_size=size).all()
    options = {"key_block": size}
    assert dmask.create_mask(bias, None, 1, 4, 16, 2, type="block_topk", options=options).all()
    assert dmask.create_mask(bias, None, 1, 4, 16, 9, block_size=size).all()
    assert dmask.topk_mask(bias, None, size).all()


# ------------------------------------------------------------------ removed ops


def test_an_op_that_is_held_across_unregister_fails() -> None:
    """Runs in a separate process, because a call into freed memory would crash it."""
    program = """
import torch, dmask

def above(attention_bias: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    return attention_bias > 0

bias = torch.randn(1, 1, 2, 8)
for _ in range(3):
    dmask.register_strategy("above", above)
    packet = torch.ops.dmask.above_mask
    compiled = torch.compile(lambda b: packet(b, None), backend="eager", fullgraph=True)
    compiled(bias)
    held = [packet, packet.default, lambda b, m: compiled(b)]
    dmask.unregister_strategy("above")
    for call in held:
        try:
            call(bias, None)
        except (RuntimeError, AttributeError) as error:
            assert "above_mask" in str(error), error
        else:
            raise AssertionError("a removed op ran")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=300)
