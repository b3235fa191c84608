"""The fast CPU way: on all cores, called from anywhere, on arrays of any shape."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import dmask
from dmask import registry
from dmask.kernels import cpu, order, parallel, reference
from dmask.kernels.parallel import Box, boxes, for_each
from tests.oracle import inlined_path
from tests.test_mask import scores


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(2, 3, 5, 16), (1, 1, 1, 1000), (3, 4, 1, 8), (7, 1, 2, 33)])
def test_boxes_cover_every_row_once(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "BOX_BYTES", 512)
    seen = torch.zeros(shape[:-1], dtype=torch.int32)
    for box in boxes(shape, itemsize=4):
        part = torch.empty(shape, dtype=torch.bool)[box]
        assert part.numel() * 4 <= 512 or part[..., 0].numel() == 1
        seen[box] += 1
    assert (seen == 1).all()


def test_an_error_in_a_box_reaches_the_caller(threads: None) -> None:
    def work(box: Box) -> None:
        if box[0].start == 5:
            raise ZeroDivisionError("in box 5")

    with pytest.raises(ZeroDivisionError, match="in box 5"):
        for_each(work, ((slice(i, i + 1),) for i in range(9)))


def few_rows_above_zero(shape: tuple[int, ...]) -> Tensor:
    """The rows that a sample would look at are no sample of the others."""
    every_so_often = torch.arange(shape[2])[:, None] % (shape[2] // 2) == 0
    return torch.where(every_so_often, scores(*shape).abs(), -scores(*shape).abs())


def with_negative_nan(shape: tuple[int, ...]) -> Tensor:
    bias = scores(*shape).abs()
    bias[..., ::9] = -bias.new_tensor(torch.nan).abs()
    assert bias[..., 0].signbit().all()
    return bias


KINDS = {
    "normal": lambda shape: scores(*shape),
    "relu": lambda shape: scores(*shape).relu(),
    "rounded": lambda shape: scores(*shape).mul(2).round(),
    "constant": lambda shape: torch.full(shape, 0.5),
    "negative": lambda shape: -scores(*shape).abs(),
    "few rows above zero": lambda shape: few_rows_above_zero(shape),
    "NaN with a sign": lambda shape: with_negative_nan(shape),
}
LARGE = (1, 2, 70, 700)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tie_break", ["torch", "lowest"])
@pytest.mark.parametrize("dtype", cpu.DTYPES)
def test_large_masks_equal_the_reference(
    kind: str, tie_break: str, dtype: torch.dtype, threads: None
) -> None:
    bias = KINDS[kind](LARGE).to(dtype)
    masks = [
        None,
        torch.ones(70, 700, dtype=torch.bool).tril(630)[None, None],  # bottom-right causal
        scores(1, 2, 70, 700) > 0.3,
        torch.arange(700)[None, None, None] >= 650,  # left padding: fewer keys than the window
        torch.zeros(1, 1, 1, 1, dtype=torch.bool),
    ]
    floor = torch.finfo(dtype).min
    for mask in masks:
        wanted = reference.topk_mask(bias, mask, 100, floor, tie_break)
        assert torch.equal(dmask.topk_mask(bias, mask, 100, tie_break=tie_break), wanted)


@pytest.mark.parametrize("dtype", cpu.DTYPES)
def test_keys_sort_like_scores_and_give_them_back(dtype: torch.dtype) -> None:
    special = [torch.nan, torch.inf, 3.0, 1e-7, 0.0, -0.0, -1e-7, -3.0, -torch.inf]
    numbers = torch.tensor(special, dtype=torch.float64).to(dtype)
    numbers = torch.cat([-numbers[:1], numbers])  # a NaN of the other sign
    keys = order.keys(order.bits(numbers), dtype).tolist()
    assert keys == sorted(keys, reverse=True)
    assert keys[0] == keys[1]
    assert keys[5] == keys[6] == 0
    back = order.scores(order.keys(order.bits(numbers), dtype).copy(), dtype)
    assert torch.equal(back[2:], numbers[2:])
    assert back[:2].isnan().all()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_results_do_not_depend_on_the_number_of_threads(count: int) -> None:
    before = torch.get_num_threads()
    bias = scores(2, 3, 70, 700).bfloat16()
    wanted = reference.topk_mask(bias, None, 100, torch.finfo(bias.dtype).min, "lowest")
    torch.set_num_threads(count)
    try:
        assert torch.equal(dmask.topk_mask(bias, None, 100, tie_break="lowest"), wanted)
    finally:
        torch.set_num_threads(before)


def test_many_threads_may_call_at_once(threads: None) -> None:
    biases = [scores(1, 2, 70, 700) + i for i in range(8)]
    wanted = [inlined_path(bias, None, 100) for bias in biases]
    bounds = [dmask.select(bias, 100).threshold for bias in biases]
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(5):
            same = torch.equal(dmask.topk_mask(biases[i], None, 100), wanted[i])
            if not same or not torch.equal(dmask.select(biases[i], 100).threshold, bounds[i]):
                wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=120)
        assert not caller.is_alive()
    assert not wrong


def test_a_forked_data_loader_worker_may_call() -> None:
    """The pool's threads exist in the parent only."""
    program = """
import torch, dmask
biases = [torch.randn(1, 2, 70, 700) for _ in range(3)]
# A worker has one thread, and PyTorch's own would hang there: only dmask's pool is told of two.
torch.get_num_threads = lambda: 2
class Masks(torch.utils.data.Dataset):
    def __len__(self): return 3
    def __getitem__(self, i): return dmask.topk_mask(biases[i], None, 100)
here = [Masks()[i] for i in range(3)]
loader = torch.utils.data.DataLoader(Masks(), num_workers=1, multiprocessing_context="fork")
assert all(torch.equal(a, b[0]) for a, b in zip(here, loader, strict=True))
print("same")
"""
    # Forking with threads about is what the test is for; newer Pythons warn of it.
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, check=True, timeout=100, capture_output=True, text=True)
    assert done.stdout.split() == ["same"]


def test_a_default_device_or_dtype_changes_nothing() -> None:
    bias = scores(*LARGE)
    wanted = dmask.topk_mask(bias, None, 100), dmask.select(bias, 100, is_causal=True).to_indices()
    registry.forget_plans()
    with torch.device("meta"):
        got = dmask.topk_mask(bias, None, 100), dmask.select(bias, 100, is_causal=True).to_indices()
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


# ------------------------------------------------------------------ the way past the dispatcher


class Counting(torch.utils._python_dispatch.TorchDispatchMode):
    """Sees the ops that a call makes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Wrapped(torch.Tensor):
    """A subclass that has its ops told to it."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        cls.seen.append(str(func))
        plain = torch.utils._pytree.tree_map_only(Wrapped, lambda t: t._inner, args)
        return func(*plain, **(kwargs or {}))


def create(bias: Tensor) -> Tensor:
    return dmask.create_mask(bias, None, 1, 1, 8, 3)


def test_whoever_watches_the_dispatcher_sees_the_op() -> None:
    bias = scores(1, 1, 1, 8)
    with Counting() as mode:
        create(bias)
    assert mode.names == ["dmask.create_mask.default"]
    wrapped = torch.Tensor._make_wrapper_subclass(Wrapped, bias.shape)
    wrapped._inner = bias
    assert torch.equal(create(wrapped), create(bias))
    assert Wrapped.seen == ["dmask.create_mask.default"]
    graph = torch.fx.experimental.proxy_tensor.make_fx(create)(bias).graph
    assert "dmask.create_mask.default" in [str(node.target) for node in graph.nodes]
    traced = torch.jit.trace(create, (bias,), check_trace=False).graph
    assert "dmask::create_mask" in str(traced)
