"""The op `select`: against the plain loop, and each representation against the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

import dmask
from dmask.kernels.cpu import parallel
from dmask.kernels.cpu import select as cpu
from tests.conftest import Mode
from tests.support.generate import Select, selects
from tests.support.oracle import (
    expected_selection,
)
from tests.support.scores import scores

EXAMPLES = {"eager": 1500, "compiled": 40}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits every example into parts for several threads."""
    monkeypatch.setattr(parallel, "PART_SCORES", 32)


@pytest.fixture(params=["heaps", "rows"])
def prefix_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two algorithms of the CPU kernel for a causal bias per key."""
    monkeypatch.setattr(cpu, "MANY_QUERIES", 1 if request.param == "heaps" else 10**9)


@pytest.mark.usefixtures("prefix_way", "small_parts")
@pytest.mark.parametrize("mode", EXAMPLES)
def test_a_selection_equals_the_loop(mode: str) -> None:
    @settings(max_examples=EXAMPLES[mode], suppress_health_check=list(HealthCheck))
    @given(selects())
    def run(call: Select) -> None:
        def fn(bias: Tensor) -> Tensor:
            return dmask.select(bias, call.window_size, **call.options).to_mask()

        if mode == "compiled":
            torch.compiler.reset()
            fn = torch.compile(fn, fullgraph=True, backend="eager")
        got = fn(call.bias)
        full = expected_selection(call)
        assert got.shape == full.shape
        assert torch.equal(got, full)

    run()


@pytest.mark.usefixtures("way")
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(selects())
def test_every_representation_keeps_the_same_keys(call: Select) -> None:
    selected = dmask.select(call.bias, call.window_size, **call.options)
    mask = expected_selection(call)
    assert torch.equal(selected.to_mask(), mask)
    lowest = torch.finfo(call.bias.dtype).min
    assert torch.equal(selected.to_bias() == 0, mask)
    assert (selected.to_bias()[~mask] == lowest).all()
    carried = selected.to_bias(scores=True)
    assert (carried[~mask] == lowest).all()
    heads = torch.arange(mask.shape[1]) // (mask.shape[1] // call.bias.shape[1])
    bias = call.bias[:, heads].expand(mask.shape)
    torch.testing.assert_close(carried[mask], bias[mask], rtol=0, atol=0, equal_nan=True)
    indices = selected.to_indices()
    assert indices.shape == (*mask.shape[:3], call.window_size)
    assert indices.dtype is torch.int32
    for row, chosen in zip(mask.flatten(0, 2), indices.flatten(0, 2), strict=True):
        kept = row.nonzero().flatten().tolist()
        assert chosen.tolist() == kept + [-1] * (call.window_size - len(kept))
    assert torch.equal(dmask.mask_from_indices(indices, call.shape[3]), mask)
    filled = selected.to_indices(fill=call.shape[3], multiple_of=4)
    width = call.window_size
    assert filled.shape[3] % 4 == 0
    assert 0 <= filled.shape[3] - width < 4
    assert torch.equal(filled[..., :width].where(indices >= 0, -1), indices)
    assert (filled[..., :width][indices < 0] == call.shape[3]).all()
    assert (filled[..., width:] == call.shape[3]).all()
    words = selected.to_bitmask()
    assert words.shape == (*mask.shape[:3], -(-call.shape[3] // 32))
    assert words.dtype is torch.int32
    bits = (words[..., None] >> torch.arange(32)) & 1
    assert torch.equal(bits.flatten(3)[..., : call.shape[3]].bool(), mask)
    assert not bits.flatten(3)[..., call.shape[3] :].any()
    counts = selected.counts()
    assert counts.dtype is torch.int32
    assert torch.equal(counts, mask.sum(-1))
    places = [torch.arange(n) for n in mask.shape]
    b, h, q, k = torch.meshgrid(*places, indexing="ij")
    assert torch.equal(selected.mask_mod()(b, h, q, k), mask)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_a_row_depends_only_on_itself(dtype: torch.dtype, tied: bool) -> None:
    bias = scores(3, 2, 9, 40).to(dtype)
    bias = bias.round() if tied else bias
    whole = dmask.select(bias, 7)
    bounds = torch.stack([whole.threshold.float(), whole.cutoff.float()])
    padded = torch.nn.functional.pad(bias, (0, 11), value=9.0)
    allowed = (torch.arange(51) < 40)[None, None, None]
    others = {
        "batch": [dmask.select(one, 7) for one in bias.split(1)],
        "queries": [dmask.select(bias[:, :, i : i + 3], 7) for i in (0, 3, 6)],
        "padding": [dmask.select(padded, 7, attention_mask=allowed)],
        "lengths": [dmask.select(padded, 7, key_lengths=torch.tensor([40]))],
    }
    for name, parts in others.items():
        dim = {"batch": 1, "queries": 3}.get(name, 1)
        got = [torch.stack([p.threshold.float(), p.cutoff.float()]) for p in parts]
        assert torch.equal(torch.cat(got, dim=dim), bounds), name


@pytest.mark.usefixtures("prefix_way")
def test_the_threshold_is_the_smallest_kept_score_and_the_cutoff_the_last_index_of_it() -> None:
    bias = torch.tensor([2.0, 1.0, 2.0, 1.0, 1.0, 3.0]).view(1, 1, 1, 6)
    selected = dmask.select(bias, 3, is_causal=True, query_len=6)
    assert selected.threshold.flatten().tolist() == [2, 1, 1, 1, 1, 2]
    assert selected.cutoff.flatten().tolist() == [0, 1, 1, 1, 1, 2]
    empty = dmask.select(bias, 3, attention_mask=torch.zeros(1, 6, dtype=torch.bool))
    assert empty.threshold.isinf().all()
    assert empty.cutoff.flatten().tolist() == [-1]


@pytest.mark.usefixtures("prefix_way")
def test_slots_of_forbidden_local_keys_go_to_the_best_others() -> None:
    """Keys 5 and 6 are forbidden, so the last row keeps three keys, none of them local."""
    bias = torch.tensor([9.0, 8.0, 7.0, 1.0, 1.0, 1.0, 1.0]).view(1, 1, 1, 7)
    mask = torch.tensor([True] * 5 + [False] * 2).view(1, 1, 1, 7)
    selected = dmask.select(bias, 3, attention_mask=mask, is_causal=True, query_len=7, local=2)
    kept = [row.nonzero().flatten().tolist() for row in selected.to_mask()[0, 0]]
    assert kept == [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 4], [0, 1, 2]]


@pytest.mark.parametrize("always", [{"sinks": 2**40}, {"local": 2**40}, {"local": 2**31}])
@pytest.mark.parametrize("ranges", [False, True])
def test_more_always_kept_keys_than_int32_holds(always: dict[str, int], ranges: bool) -> None:
    """FlexAttention calls a `mask_mod` with int32 indices, and ranges may be int32, too."""
    limits: dict[str, Any] = {"is_causal": True}
    if ranges:
        start, end = torch.tensor([[0, 1, 2]]).int(), torch.tensor([[8, 3, 4]]).int()
        limits = {"key_ranges": (start, end)}
    selected = dmask.select(scores(1, 2, 3, 8), 2**41, **limits, **always)
    mask = selected.to_mask()
    sums = [6 + 7 + 8] * 2 if not ranges else [8 + 2 + 2] * 2
    assert mask.sum(dim=(0, 2, 3)).tolist() == sums
    for place in torch.cartesian_prod(*map(torch.arange, mask.shape)).int():
        assert selected.mask_mod()(*place) == mask[tuple(place.tolist())]


# ------------------------------------------------------------------ transforms and compilers


def choose(bias: Tensor, lengths: Tensor | None = None) -> dmask.Selection:
    return dmask.select(
        bias, 8, is_causal=True, query_len=24, key_lengths=lengths, sinks=1, local=2
    )


def test_a_selection_is_a_pytree_and_leaves_compiled_functions(mode: Mode) -> None:
    bias, lengths = scores(2, 4, 1, 40), torch.tensor([40, 17])
    selected = mode(choose)(bias, lengths)
    assert isinstance(selected, dmask.Selection)
    tensors, spec = pytree.tree_flatten(selected)
    assert len(tensors) == 4
    again = pytree.tree_unflatten(tensors, spec)
    assert torch.equal(again.to_mask(), choose(bias, lengths).to_mask())


def test_vmap_of_a_selection(mode: Mode) -> None:
    biases, lengths = scores(5, 2, 4, 1, 40), torch.randint(0, 41, (5, 2))

    def fn(bias: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        selected = choose(bias, lengths)
        return selected.to_mask(), selected.to_bias(), selected.to_indices()

    got = mode(vmap(fn))(biases, lengths)
    for i, stacked in enumerate(got):
        assert torch.equal(
            stacked, torch.stack([fn(b, n)[i] for b, n in zip(biases, lengths, strict=True)])
        )
    stacked = vmap(choose)(biases)
    assert isinstance(stacked, dmask.Selection)
    assert torch.equal(stacked.cutoff, torch.stack([choose(b).cutoff for b in biases]))
    nested = vmap(vmap(fn, in_dims=(0, None)), in_dims=(None, 0))(biases, lengths)
    assert torch.equal(nested[0][2, 3], fn(biases[3], lengths[2])[0])


class Representations(torch.nn.Module):
    def forward(self, bias: Tensor) -> tuple[Tensor, ...]:
        selected = dmask.select(bias, 8, is_causal=True, sinks=1)
        return selected.to_mask(), selected.to_bias(scores=True), selected.to_indices()


def test_export_with_dynamic_lengths() -> None:
    auto = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Representations(), (scores(2, 4, 6, 40),), dynamic_shapes=({0: auto, 2: auto, 3: auto},)
    )
    for shape in [(2, 4, 6, 40), (3, 4, 7, 9), (5, 4, 11, 33)]:
        bias = scores(*shape)
        for got, wanted in zip(program.module()(bias), Representations()(bias), strict=True):
            assert torch.equal(got, wanted)


def test_gradients_reach_the_scores_that_are_carried(mode: Mode) -> None:
    bias = scores(2, 4, 6, 40).requires_grad_()

    def fn(bias: Tensor) -> Tensor:
        return dmask.select(bias, 8).to_bias(scores=True).softmax(dim=-1).square().sum()

    mode(fn)(bias).backward()
    mask = dmask.select(bias.detach(), 8).to_mask()
    other = bias.detach().clone().requires_grad_()
    torch.where(mask, other, torch.finfo(torch.float32).min).softmax(-1).square().sum().backward()
    torch.testing.assert_close(bias.grad, other.grad)
    assert (bias.grad[~mask] == 0).all()
    assert not dmask.select(bias, 8).threshold.requires_grad


def test_growing_keys_stay_within_a_budget_of_graphs() -> None:
    counter = torch._dynamo.testing.CompileCounter()
    fn = torch.compile(
        lambda bias: dmask.select(bias, 16, is_causal=True, sinks=2).to_mask(),
        fullgraph=True,
        backend=counter,
    )
    for key_len in (8, 12, 16, 17, 24, 40):
        bias = scores(1, 2, 3, key_len)
        assert torch.equal(fn(bias), dmask.select(bias, 16, is_causal=True, sinks=2).to_mask())
    assert counter.frame_count <= 2


def test_the_comparison_fuses_into_a_compiled_softmax() -> None:
    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        mask = dmask.select(bias, 8, is_causal=True, query_len=24).to_mask()
        logits = (query @ key.transpose(-2, -1)).masked_fill(~mask, -torch.inf)
        return logits.softmax(dim=-1) @ value

    arguments = (
        scores(2, 4, 24, 16),
        scores(2, 4, 40, 16),
        scores(2, 4, 40, 16),
        scores(2, 4, 1, 40),
    )
    compiled = torch.compile(attend, fullgraph=True)
    got, (code, *_) = torch._inductor.utils.run_and_get_code(compiled, *arguments)
    torch.testing.assert_close(got, attend(*arguments))
    assert "torch.ops.dmask.select" in code
    assert "torch.bool" not in code  # no buffer of flags
