"""Tests that apply to every op: its schema, and PyTorch's checks on every sample."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import expecttest
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import vmap
from torch.utils._pytree import tree_map_only

import dmask
from dmask.ops import op_names
from tests.ops import samples
from tests.support.loop import loop
from tests.support.scores import allowed, scores

OPS = torch.ops.dmask


def test_schemas() -> None:
    schemas = "\n".join(str(getattr(OPS, name).default._schema) for name in op_names())
    expecttest.assert_expected_inline(
        schemas,
        """\
dmask::as_bool(Tensor attention_mask) -> Tensor
dmask::block_lists(Tensor counts, SymInt whole) -> (Tensor kv_num_blocks, Tensor kv_indices, Tensor full_kv_num_blocks, Tensor full_kv_indices, Tensor q_num_blocks, Tensor q_indices, Tensor full_q_num_blocks, Tensor full_q_indices)
dmask::block_smooth(Tensor mask, SymInt block_size, Tensor? attention_mask=None) -> Tensor
dmask::block_topk_mask(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, int key_block=64, str pool="max") -> Tensor
dmask::create_mask(Tensor attention_bias, Tensor? attention_mask, SymInt batch_size, SymInt query_len, SymInt key_len, SymInt? window_size, float? min_dtype=None, SymInt? block_size=None, str type="topk", str tie_break="torch", str options="") -> Tensor
dmask::indexer_topk(Tensor index_query, Tensor index_key, Tensor index_weights, SymInt window_size, float? scale=None, str activation="relu", Tensor? attention_mask=None, bool is_causal=False, Tensor? key_lengths=None, SymInt sinks=0, SymInt local=0, float? min_dtype=None, Tensor? range_starts=None, Tensor? range_ends=None) -> Tensor
dmask::kept_blocks(Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, Tensor? key_lengths, Tensor? range_starts, Tensor? range_ends, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor, SymInt query_block, SymInt key_block) -> Tensor
dmask::kept_indices(Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, Tensor? key_lengths, Tensor? range_starts, Tensor? range_ends, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor, SymInt window_size) -> Tensor
dmask::kept_mask(Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, Tensor? key_lengths, Tensor? range_starts, Tensor? range_ends, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor) -> Tensor
dmask::mask_from_indices(Tensor indices, SymInt key_len, SymInt block_size=1, str out_of_range="error") -> Tensor
dmask::ratio_mask(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, float? min_dtype=None, *, float ratio=0.25) -> Tensor
dmask::relu_mask(Tensor attention_bias, Tensor? attention_mask, float? min_dtype=None) -> Tensor
dmask::select(Tensor attention_bias, SymInt window_size, Tensor? attention_mask=None, bool is_causal=False, SymInt? query_len=None, Tensor? key_lengths=None, SymInt sinks=0, SymInt local=0, float? min_dtype=None, Tensor? range_starts=None, Tensor? range_ends=None) -> (Tensor threshold, Tensor cutoff)
dmask::topk_indices(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None) -> Tensor
dmask::topk_mask(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, str tie_break="torch") -> Tensor
dmask::topp_mask(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, float? min_dtype=None, *, float p=0.90000000000000002) -> Tensor""",
    )


def test_every_op_is_pt2_compliant() -> None:
    for name in op_names():
        assert torch.Tag.pt2_compliant_tag in getattr(OPS, name).default.tags


def test_every_op_has_samples() -> None:
    """A new op needs an entry in `dmask/samples.py`, and one in `tests/ops/samples.py`."""
    assert sorted(samples.BASIC) == list(op_names())
    assert sorted(samples.MORE) == list(op_names())


every_sample = pytest.mark.parametrize(("op", "name"), samples.ALL)


def call(op: str, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """Returns the results of an op as a tuple."""
    result = getattr(OPS, op)(*args, **kwargs)
    return (result,) if isinstance(result, Tensor) else result


@every_sample
def test_opcheck(op: str, name: str) -> None:
    sample = samples.SAMPLES[op][name]()
    torch.library.opcheck(getattr(OPS, op).default, sample.args, dict(sample.kwargs))


@every_sample
def test_results_are_new_contiguous_and_without_grad(op: str, name: str) -> None:
    sample = samples.SAMPLES[op][name]()
    given = [arg for arg in sample.args if isinstance(arg, Tensor)]
    before = [tensor.clone() for tensor in given]
    for result in call(op, *sample.args, **sample.kwargs):
        assert result.is_contiguous()
        assert not result.requires_grad
        if result.numel():
            storage = result.untyped_storage().data_ptr()
            assert all(storage != tensor.untyped_storage().data_ptr() for tensor in given)
    assert all(torch.equal(*pair) for pair in zip(given, before, strict=True))


# ------------------------------------------------------------------ devices without data


def described(results: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    return [(tuple(r.shape), r.dtype, r.stride() if r.numel() else None) for r in results]


@every_sample
def test_meta_and_fake_results_have_the_shapes_and_dtypes_of_real_ones(op: str, name: str) -> None:
    args, kwargs = samples.SAMPLES[op][name]()
    real = call(op, *args, **kwargs)
    meta = call(op, *tree_map_only(Tensor, lambda tensor: tensor.to("meta"), args), **kwargs)
    assert described(meta) == described(real)
    assert all(result.device.type == "meta" for result in meta)
    with FakeTensorMode() as mode:
        fake = call(op, *tree_map_only(Tensor, mode.from_tensor, args), **kwargs)
    assert described(fake) == described(real)
    assert all(result.device.type == "cpu" for result in fake)


def test_functions_take_meta_and_fake_tensors() -> None:
    bias, mask = scores(2, 4, 3, 16), allowed(2, 16)
    got = dmask.create_mask(bias.to("meta"), mask.to("meta"), 2, 3, 16, 5)
    assert (got.shape, got.dtype, got.device.type) == ((2, 4, 3, 16), torch.bool, "meta")
    with FakeTensorMode() as mode:
        fakes = mode.from_tensor(bias), mode.from_tensor(mask)
        got = dmask.create_mask(*fakes, 2, 3, 16, 5)
        assert (got.shape, got.dtype, got.device.type) == ((2, 4, 3, 16), torch.bool, "cpu")
        indices = dmask.topk_indices(fakes[0], None, 7)
        assert (indices.shape, indices.dtype) == ((2, 4, 3, 7), torch.int32)


# ------------------------------------------------------------------ vmap


@every_sample
def test_vmap_equals_a_loop(op: str, name: str) -> None:
    args, kwargs = samples.SAMPLES[op][name]()
    places = [i for i, arg in enumerate(args) if isinstance(arg, Tensor)]

    def fn(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(places, tensors, strict=True))
        return call(op, *[given.get(i, arg) for i, arg in enumerate(args)], **kwargs)

    tensors = [args[place].detach() for place in places]
    # The second call swaps the batch entries of all tensors: a selection and its bounds must
    # stay together.
    stacks = [torch.stack([tensor, tensor.roll(1, 0)]) for tensor in tensors]
    calls = [fn(*slices) for slices in zip(*stacks, strict=True)]
    check_stacked(vmap(fn)(*stacks), calls)
    last = [stack.movedim(0, -1) for stack in stacks]
    check_stacked(vmap(fn, in_dims=-1)(*last), calls)
    for i, tensor in enumerate(tensors):  # only one tensor is mapped
        in_dims = tuple(0 if i == j else None for j in range(len(tensors)))
        given = [torch.stack([tensor] * 3) if i == j else other for j, other in enumerate(tensors)]
        check_stacked(vmap(fn, in_dims=in_dims)(*given), [calls[0]] * 3)


def check_stacked(got: tuple[Tensor, ...], calls: list[tuple[Tensor, ...]]) -> None:
    for result, wanted in zip(got, zip(*calls, strict=True), strict=True):
        torch.testing.assert_close(result, torch.stack(wanted), rtol=0, atol=0, equal_nan=True)


def test_vmap_of_the_functions_eager_and_compiled() -> None:
    biases, masks = scores(5, 2, 4, 3, 16), allowed(5, 2, 1, 3, 16)
    functions: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda b, m: dmask.topk_mask(b, m, 5, tie_break="lowest"),
        dmask.relu_mask,
        lambda b, m: dmask.topk_indices(b, m, 5),
        lambda b, m: dmask.block_smooth(b > 0, 4, m),
        lambda b, m: dmask.create_mask(b, m, 2, 3, 16, 5, block_size=4),
    ]
    for function in functions:
        assert torch.equal(vmap(function)(biases, masks), loop(function, biases, masks))
        compiled = torch.compile(vmap(function), fullgraph=True, backend="eager")
        assert torch.equal(compiled(biases, masks), loop(function, biases, masks))


def test_results_of_the_functions_are_new_and_without_grad() -> None:
    bias = scores(1, 2, 3, 8).requires_grad_()
    mask = torch.ones(1, 2, 3, 8, dtype=torch.bool)
    results = [
        dmask.create_mask(bias, mask, 1, 3, 8, 99),
        dmask.topk_mask(bias, mask, 3),
        dmask.relu_mask(bias, mask),
        dmask.topk_indices(bias, mask, 3),
        dmask.block_smooth(mask, 1, mask),
        dmask.block_smooth(mask, 1),
    ]
    for result in results:
        assert not result.requires_grad
        assert result.is_contiguous()
        assert result.untyped_storage().data_ptr() not in (
            bias.untyped_storage().data_ptr(),
            mask.untyped_storage().data_ptr(),
        )
    assert mask.all()


FIRST_CALLS = {
    "eager": "fn(bias)",
    "compiled": "torch.compile(fn, fullgraph=True, backend='aot_eager')(bias)",
    "vmap": "torch.func.vmap(fn)(bias[None])",
    "fake": "torch.compile(fn, fullgraph=True, backend='eager', dynamic=True)(bias)",
}


@pytest.mark.parametrize("call", FIRST_CALLS)
def test_any_call_may_be_the_first_of_a_process(call: str) -> None:
    program = f"""
import torch, dmask
fn = lambda bias: dmask.create_mask(bias, None, 1, 1, 8, 3)
bias = torch.arange(8.0).view(1, 1, 1, 8)
assert {FIRST_CALLS[call]}.flatten().tolist() == [False] * 5 + [True] * 3
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("op", samples.BASIC)
def test_the_first_call_of_a_process_may_be_compiled(op: str) -> None:
    """The first call imports kernels, even while it is traced."""
    program = f"""
import torch, dmask
from dmask.samples import SAMPLES
args, kwargs = list(SAMPLES[{op!r}].values())[-1]()
fn = lambda *args: torch.ops.dmask.{op}(*args, **kwargs)
compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")(*args)
torch.testing.assert_close(compiled, fn(*args), rtol=0, atol=0)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_import_loads_no_compiler() -> None:
    program = """
import sys, torch
before = set(sys.modules)
import dmask
new = {name.partition('.')[0] + '.' + name.partition('.')[2].partition('.')[0]
       for name in set(sys.modules) - before}
bad = {name for name in new if name.startswith(('torch._dynamo', 'torch._inductor', 'sympy', 'matplotlib'))}
assert not bad, bad
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
