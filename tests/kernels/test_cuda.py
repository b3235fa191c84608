"""Compares results on a GPU with the CPU, and tests the gates of the audit that need a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from compile_checks import audit
from dmask.contracts.dispatch import CPU
from tests.support.scores import scores

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SHAPE = (2, 4, 33, 700)


def special() -> Tensor:
    bias = scores(*SHAPE)
    bias[..., ::7], bias[..., ::11], bias[..., ::17] = torch.inf, -torch.inf, -0.0
    bias[..., ::13], bias[..., 5::13] = torch.nan, -torch.tensor(torch.nan)
    return bias


KINDS: dict[str, Callable[[], Tensor]] = {
    "normal": lambda: scores(*SHAPE),
    "relu": lambda: scores(*SHAPE).relu(),
    "rounded": lambda: scores(*SHAPE).mul(2).round(),
    "special": special,
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", CPU.dtypes)
def test_cuda_equals_the_cpu(dtype: torch.dtype, kind: str, masked: bool) -> None:
    bias = KINDS[kind]().to(dtype)
    mask = scores(2, 1, 33, 700) > -0.5 if masked else None
    cuda = bias.cuda(), None if mask is None else mask.cuda()
    for window in (1, 50, 699, 900):
        wanted = dmask.topk_mask(bias, mask, window, tie_break="lowest")
        assert torch.equal(dmask.topk_mask(*cuda, window, tie_break="lowest").cpu(), wanted)
        for always in ({}, {"is_causal": True}, {"sinks": min(3, window - 1), "local": 1}):
            here = dmask.select(bias, window, attention_mask=mask, **always)
            there = dmask.select(cuda[0], window, attention_mask=cuda[1], **always)
            torch.testing.assert_close(
                there.threshold.cpu(), here.threshold, rtol=0, atol=0, equal_nan=True
            )
            assert torch.equal(there.cutoff.cpu(), here.cutoff)
            assert torch.equal(there.to_mask().cpu(), here.to_mask())


STRATEGIES: tuple[tuple[str, int | None, dict[str, Any]], ...] = (
    ("relu", None, {}),
    ("ratio", None, {"ratio": 0.29}),
    ("ratio", 50, {"ratio": 0.9}),
    ("block_topk", 128, {"key_block": 32}),
    ("block_topk", 70, {"key_block": 7, "pool": "mean"}),
    ("topp", None, {"p": 0.83}),
    ("topp", 50, {"p": 0.99}),
)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", CPU.dtypes)
def test_strategies_equal_the_cpu(dtype: torch.dtype, kind: str, masked: bool) -> None:
    bias = KINDS[kind]().to(dtype)
    mask = scores(2, 1, 33, 700) > -0.5 if masked else None
    for name, window, options in STRATEGIES:
        for block_size in (None, 5):
            rest = *(SHAPE[0], *SHAPE[2:]), window
            made = {"type": name, "block_size": block_size, "options": options}
            wanted = dmask.create_mask(bias, mask, *rest, **made)
            there = None if mask is None else mask.cuda()
            assert torch.equal(dmask.create_mask(bias.cuda(), there, *rest, **made).cpu(), wanted)


def test_indices_as_masks_equal_the_cpu() -> None:
    named = (scores(2, 4, 33, 40) * 20).int().clamp(max=86)
    for block_size in (1, 8):
        wanted = dmask.mask_from_indices(named, 700, block_size=block_size)
        assert torch.equal(
            dmask.mask_from_indices(named.cuda(), 700, block_size=block_size).cpu(), wanted
        )


def test_ties_at_the_end_of_the_longest_row() -> None:
    """float32 tells the keys of such a row apart, but no larger numbers."""
    bias = torch.full((1, 1, 1, 2**24), -torch.inf, device="cuda")
    bias[..., :1000], bias[..., -4:] = torch.arange(1.0, 1001.0, device="cuda"), 0.5
    for window in (1001, 1003):
        mask = dmask.topk_mask(bias, None, window, tie_break="lowest")
        assert mask.nonzero()[-1, 3] == 2**24 - 4 + (window - 1001)
        assert mask.sum() == window


@pytest.mark.parametrize(
    "mask_of",
    [
        lambda bias: dmask.topk_mask(bias, None, 3, tie_break="lowest"),
        lambda bias: dmask.select(bias, 3).to_mask(),
        lambda bias: dmask.mask_from_indices(dmask.topk_indices(bias, None, 3), bias.shape[3]),
        lambda bias: dmask.relu_mask(bias, None),
        lambda bias: dmask.create_mask(
            bias, None, 1, 4, 2**16, 6, type="block_topk", options={"key_block": 2}
        ),
    ],
    ids=["topk_mask", "select", "topk_indices", "relu_mask", "block_topk"],
)
def test_keys_far_apart(mask_of: Callable[[Tensor], Tensor]) -> None:
    """The offset of the last key does not fit in 32 bits."""
    keys, rows = 2**16, 2**15 + 100
    bias = torch.zeros(keys, rows, device="cuda", dtype=torch.bfloat16)
    bias[-3:, :4] = 1.0
    view = bias.T[None, None, :4]
    assert torch.equal(mask_of(view).cpu(), mask_of(view.cpu()))


def clean(x: Tensor) -> Tensor:
    return x * 2 + 1


def waits(x: Tensor) -> Tensor:
    return x * 2 + float(x.sum())


def waits_in_its_graph(x: Tensor) -> Tensor:
    return (x.cpu() + 1).cuda() * 2


@pytest.mark.parametrize("fn", [clean, waits, waits_in_its_graph])
def test_host_syncs_are_found(fn: Callable[[Tensor], Tensor]) -> None:
    report = audit(fn, (torch.ones(8, device="cuda"),), gates=["host-sync"])
    found = [finding for finding in report.findings if finding.kind == "host-sync"]
    assert len(found) == (fn is not clean)
    assert all(finding.file == __file__ for finding in found)


def changes_its_input(x: Tensor) -> Tensor:
    return x.add_(1) * 2


@pytest.mark.parametrize("fn", [clean, changes_its_input])
def test_skipped_cuda_graphs_are_found(fn: Callable[[Tensor], Tensor]) -> None:
    x = torch.ones(8, device="cuda")
    report = audit(fn, (x,), gates=["cudagraph"], backend="inductor")
    found = [finding for finding in report.findings if finding.kind == "cudagraph-skip"]
    assert len(found) == (fn is not clean)


def test_gradients_outlive_their_cuda_graphs() -> None:
    layer = torch.nn.Linear(8, 8, device="cuda")
    x = torch.ones(2, 8, device="cuda", requires_grad=True)
    report = audit(layer, (x,), backward=True, gates=["cudagraph"], backend="inductor")
    report.assert_clean()
