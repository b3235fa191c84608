"""The CPU kernels: parts and threads, number formats, layouts, caches, and the direct call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

import dmask
from dmask.contracts.dispatch import CPU
from dmask.contracts.spec import forget_plans
from dmask.kernels.cpu import codes as code
from dmask.kernels.cpu import loops, parallel, rows, search
from dmask.kernels.cpu.broadcast import NO_MASK, broadcast_rows
from dmask.kernels.cpu.parallel import for_each_part
from dmask.kernels.reference import topk as reference
from tests.support.inlined import inlined_path
from tests.support.scores import scores


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 7, 100, 1000])
def test_parts_cover_every_row_once(
    rows: int, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "PART_SCORES", 64)
    seen, parts = np.zeros(rows, np.int32), []

    def work(start: int, stop: int) -> None:
        seen[start:stop] += 1
        parts.append(stop - start)

    for_each_part(work, rows, width=16)
    assert (seen == 1).all()
    # Enough parts to keep four threads busy, but none smaller than PART_SCORES.
    assert len(parts) == max(1, min(4 * 4, rows // 4))


def test_an_error_in_a_part_reaches_the_caller(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "PART_SCORES", 1)

    def work(start: int, stop: int) -> None:
        if start <= 5 < stop:
            raise ZeroDivisionError("in row 5")

    with pytest.raises(ZeroDivisionError, match="in row 5"):
        for_each_part(work, 9, 1)


def misleading_sample(shape: tuple[int, ...]) -> Tensor:
    """Returns scores whose sampled keys are all larger than the others."""
    sampled = torch.arange(shape[-1]) % search.SAMPLE_STEP == 0
    return torch.where(sampled, scores(*shape).abs() + 1, -scores(*shape).abs())


def misleading_rows(shape: tuple[int, ...]) -> Tensor:
    """Returns scores whose thresholds differ widely from row to row."""
    row = torch.arange(shape[2])[:, None]
    return scores(*shape) * 10.0 ** (row * 3 % 8 - 4) + (row % 3 - 1) * 50


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
    "misleading sample": lambda shape: misleading_sample(shape),
    "misleading rows": lambda shape: misleading_rows(shape),
    "NaN with a sign": lambda shape: with_negative_nan(shape),
}
LARGE = (1, 2, 70, 700)
LONG = (1, 1, 2, 40_000)
"""Enough keys for a sample, and more keys than a 16-bit integer can count."""


@pytest.mark.parametrize("shape", [LARGE, LONG])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tie_break", ["torch", "lowest"])
@pytest.mark.parametrize("dtype", CPU.dtypes)
def test_large_masks_equal_the_reference(
    shape: tuple[int, ...], kind: str, tie_break: str, dtype: torch.dtype, threads: None
) -> None:
    assert shape[3] < search.LONG_ROW or shape == LONG
    bias, (queries, keys) = KINDS[kind](shape).to(dtype), shape[2:]
    masks = [
        None,
        torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None],
        scores(*shape) > 0.3,
        torch.arange(keys)[None, None, None]
        >= keys - 50,  # left padding: fewer keys than the window
        torch.zeros(1, 1, 1, 1, dtype=torch.bool),
    ]
    floor = torch.finfo(dtype).min
    for mask in masks:
        for window in (1, 100, keys - 3, keys + 1):
            wanted = reference.topk_mask(bias, mask, window, floor, tie_break)
            assert torch.equal(dmask.topk_mask(bias, mask, window, tie_break=tie_break), wanted)


@pytest.mark.parametrize("dtype", CPU.dtypes)
def test_codes_sort_like_scores_and_give_them_back(dtype: torch.dtype) -> None:
    special = [torch.nan, torch.inf, 3.0, 1e-7, 0.0, -0.0, -1e-7, -3.0, -torch.inf]
    numbers = torch.tensor(special, dtype=torch.float64).to(dtype)
    numbers = torch.cat([-numbers[:1], numbers])  # a NaN of the other sign
    table = broadcast_rows(code.bits(numbers).view(1, 1, 1, -1), len(numbers))
    codes = np.empty(len(numbers), table.rows.dtype)
    limits = code.limits_of(torch.finfo(dtype).min, dtype)
    rows.encode_row(0, (1, 1), table, NO_MASK, limits.infinity, 0, codes)
    assert codes.tolist() == code.codes_of(numbers, limits.infinity).tolist()
    assert codes.tolist() == sorted(codes, reverse=True)
    assert codes[0] == codes[1] > limits.infinity == codes[2]
    assert codes[5] == codes[6] == 0
    assert codes[-2] > limits.floor > codes[-1]
    back = code.scores(codes, dtype)
    assert torch.equal(back[2:], numbers[2:])
    assert back[:2].isnan().all()


def test_a_table_has_each_row_once() -> None:
    bias = scores(2, 1, 3, 8)
    for tensor, strides in (
        (bias, (3, 0, 1)),
        (bias[:1], (0, 0, 1)),
        (bias[:, :, :1].expand(2, 1, 3, 8), (1, 0, 0)),
        (bias[:, :, :, :1], (3, 0, 1)),
        (bias.transpose(0, 2).contiguous().transpose(0, 2), (3, 0, 1)),
    ):
        table = broadcast_rows(tensor, 8)
        assert table.strides == strides
        for b, h, q in np.ndindex(2, 4, 3):
            place = b * strides[0] + h * strides[1] + q * strides[2]
            expected = tensor.expand(2, 4, 3, 8)[b, h, q]
            assert table.rows[place].tolist() == expected.tolist()
        assert table.rows.size <= tensor.expand(-1, -1, -1, 8).numel()


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
    """After a fork, the threads of the pool exist only in the parent."""
    program = """
import torch, dmask
biases = [torch.randn(1, 2, 70, 700) for _ in range(3)]
# A worker has one thread, and PyTorch's own pool would hang, so only dmask's pool gets two.
torch.get_num_threads = lambda: 2
class Masks(torch.utils.data.Dataset):
    def __len__(self): return 3
    def __getitem__(self, i): return dmask.topk_mask(biases[i], None, 100)
here = [Masks()[i] for i in range(3)]
loader = torch.utils.data.DataLoader(Masks(), num_workers=1, multiprocessing_context="fork")
assert all(torch.equal(a, b[0]) for a, b in zip(here, loader, strict=True))
print("same")
"""
    # The test forks a process with threads on purpose; newer Pythons warn about it.
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, check=True, timeout=100, capture_output=True, text=True)
    assert done.stdout.split() == ["same"]


def test_loops_compile_without_a_writable_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba cannot cache if neither the package's nor the user's folder is writable."""

    def njit(function: Any, *, nogil: bool, cache: bool = False) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(function, nogil=nogil)

    monkeypatch.setattr(loops, "numba", SimpleNamespace(njit=njit))
    assert loops.compiled(lambda number: number + 1)(2) == 3


def test_a_changed_loop_invalidates_the_cache_of_its_callers(tmp_path: Path) -> None:
    """Numba checks the file of a function for changes, but not the files of the functions it calls."""
    program = """
import torch
from dmask.kernels.cpu import topk as cpu
print(cpu.topk_mask(torch.zeros(1, 1, 64, 256), None, 10, -1.0, "lowest").sum().item())
"""
    package = tmp_path / "dmask"
    shutil.copytree(Path(dmask.__file__).parent, package, ignore=shutil.ignore_patterns("*.nb?"))

    def kept() -> int:
        command = [sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, timeout=100, capture_output=True
        )
        return int(done.stdout)

    assert kept() == 64 * 10
    loops_file = package / "kernels" / "cpu" / "loops.py"
    loops_file.write_text(loops_file.read_text().replace("codes[j] > last", "codes[j] >= last"))
    assert kept() == 64 * 256


def test_numba_is_imported_by_the_first_large_mask() -> None:
    program = """
import sys, torch, dmask
dmask.topk_mask(torch.randn(1, 1, 1, 8), None, 3)
assert "numba" not in sys.modules  # a few PyTorch operations are enough
dmask.topk_mask(torch.randn(1, 1, 70, 700), None, 3)
assert "numba" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_a_default_device_or_dtype_changes_nothing() -> None:
    bias = scores(*LARGE)
    wanted = dmask.topk_mask(bias, None, 100), dmask.select(bias, 100, is_causal=True).to_indices()
    forget_plans()
    with torch.device("meta"):
        got = dmask.topk_mask(bias, None, 100), dmask.select(bias, 100, is_causal=True).to_indices()
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


# ------------------------------------------------------------------ bypassing the dispatcher


class Counting(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the ops of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Wrapped(torch.Tensor):
    """A tensor subclass that records its ops."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        cls.seen.append(str(func))
        plain = torch.utils._pytree.tree_map_only(Wrapped, lambda t: t._inner, args)
        return func(*plain, **(kwargs or {}))


def create(bias: Tensor) -> Tensor:
    return dmask.create_mask(bias, None, 1, 1, 8, 3)


def test_modes_subclasses_and_tracers_see_the_op() -> None:
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
