"""What holds for every op: schemas, tags, and PyTorch's own checks on every sample."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import expecttest
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import vmap

import dmask
from dmask.ops import op_names
from tests.support.loop import loop
from tests.support.scores import allowed, scores

OPS = torch.ops.dmask


def test_schemas() -> None:
    schemas = "\n".join(str(getattr(OPS, name).default._schema) for name in op_names())
    expecttest.assert_expected_inline(
        schemas,
        """\
dmask::as_bool(Tensor attention_mask) -> Tensor
dmask::block_smooth(Tensor mask, SymInt block_size, Tensor? attention_mask=None) -> Tensor
dmask::block_topk_mask(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, int key_block=64, str pool="max") -> Tensor
dmask::create_mask(Tensor attention_bias, Tensor? attention_mask, SymInt batch_size, SymInt query_len, SymInt key_len, SymInt? window_size, float? min_dtype=None, SymInt? block_size=None, str type="topk", str tie_break="torch", str options="") -> Tensor
dmask::kept_blocks(Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, Tensor? key_lengths, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor, SymInt query_block, SymInt key_block) -> Tensor
dmask::kept_indices(Tensor attention_bias, Tensor threshold, Tensor cutoff, Tensor? attention_mask, Tensor? key_lengths, SymInt query_len, bool is_causal, SymInt sinks, SymInt local, float floor, SymInt window_size) -> Tensor
dmask::mask_from_indices(Tensor indices, SymInt key_len, SymInt block_size=1) -> Tensor
dmask::ratio_mask(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, float? min_dtype=None, *, float ratio=0.25) -> Tensor
dmask::relu_mask(Tensor attention_bias, Tensor? attention_mask, float? min_dtype=None) -> Tensor
dmask::select(Tensor attention_bias, SymInt window_size, Tensor? attention_mask=None, bool is_causal=False, SymInt? query_len=None, Tensor? key_lengths=None, SymInt sinks=0, SymInt local=0, float? min_dtype=None) -> (Tensor threshold, Tensor cutoff)
dmask::topk_indices(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None) -> Tensor
dmask::topk_mask(Tensor attention_bias, Tensor? attention_mask, SymInt window_size, float? min_dtype=None, *, str tie_break="torch") -> Tensor
dmask::topp_mask(Tensor attention_bias, Tensor? attention_mask, SymInt? window_size=None, float? min_dtype=None, *, float p=0.90000000000000002) -> Tensor""",
    )


def test_every_op_is_pt2_compliant() -> None:
    for name in op_names():
        assert torch.Tag.pt2_compliant_tag in getattr(OPS, name).default.tags


BIASES: dict[str, Tensor] = {
    "float32": scores(2, 4, 3, 16),
    "bfloat16": scores(2, 4, 3, 16).bfloat16(),
    "float16": scores(2, 4, 3, 16).half(),
    "float64": scores(2, 4, 3, 16).double(),
    "requires grad": scores(2, 4, 3, 16).requires_grad_(),
    "per key": scores(2, 2, 1, 16),
    "one key": scores(2, 4, 3, 1),
    "transposed": scores(2, 4, 16, 3).transpose(-1, -2),
    "expanded": scores(2, 1, 1, 16).expand(2, 4, 3, 16),
    "tied": scores(2, 4, 3, 16).round(),
    "empty": scores(0, 4, 3, 16),
}


MASKS: dict[str, Tensor | None] = {
    "no mask": None,
    "mask": allowed(2, 1, 3, 16),
    "mask per head": allowed(1, 4, 1, 16),
    "integer mask": allowed(2, 4, 3, 16).long(),
}


def _fits(bias: str, mask: str) -> bool:
    given = MASKS[mask]
    return bias != "empty" or given is None or given.shape[0] == 1


PAIRS = [(bias, mask) for bias in BIASES for mask in MASKS if _fits(bias, mask)]


@pytest.mark.parametrize(("bias", "mask"), PAIRS)
def test_opcheck_of_the_strategies_and_indices(bias: str, mask: str) -> None:
    tensors = (BIASES[bias], MASKS[mask])
    torch.library.opcheck(OPS.topk_mask.default, (*tensors, 5))
    torch.library.opcheck(OPS.topk_mask.default, (*tensors, 5, -1.0), {"tie_break": "lowest"})
    torch.library.opcheck(OPS.relu_mask.default, tensors)
    torch.library.opcheck(OPS.topk_indices.default, (*tensors, 20))


@pytest.mark.parametrize(("bias", "mask"), PAIRS)
def test_opcheck_of_create_mask(bias: str, mask: str) -> None:
    sizes = (BIASES[bias].shape[0], 3, 16)
    torch.library.opcheck(OPS.create_mask.default, (BIASES[bias], MASKS[mask], *sizes, 5))


@pytest.mark.parametrize("length", [16, 3])
def test_opcheck_of_create_mask_with_2d_masks_and_options(length: int) -> None:
    arguments = (scores(2, 4, 3, 16), allowed(2, length), 2, 3, 16)
    torch.library.opcheck(OPS.create_mask.default, (*arguments, 5, None, 4))
    torch.library.opcheck(OPS.create_mask.default, (*arguments, None, None, None, "relu"))
    torch.library.opcheck(
        OPS.create_mask.default, (*arguments, 99), {"tie_break": "lowest", "options": ""}
    )


@pytest.mark.parametrize("mask", MASKS)
def test_opcheck_of_block_smooth(mask: str) -> None:
    for kept in (allowed(2, 4, 3, 16), allowed(2, 4, 16, 3).transpose(-1, -2)):
        torch.library.opcheck(OPS.block_smooth.default, (kept, 3, MASKS[mask]))


INPUTS = {
    "per query": lambda: (scores(2, 4, 6, 16), 5),
    "per key, causal": lambda: (scores(2, 2, 1, 16), 5, None, True, 6),
    "mask": lambda: (scores(2, 2, 6, 16), 5, scores(2, 4, 1, 16) > 0, False),
    "2-D mask, lengths": lambda: (
        scores(1, 4, 6, 16).bfloat16(),
        5,
        scores(2, 16) > -0.5,
        True,
        6,
        torch.tensor([16, 3]),
        1,
        2,
    ),
    "requires grad": lambda: (scores(2, 4, 6, 16).requires_grad_(), 5),
    "transposed": lambda: (scores(2, 4, 16, 6).transpose(-1, -2), 5),
}


@pytest.mark.parametrize("case", INPUTS)
def test_opcheck(case: str) -> None:
    ops = torch.ops.dmask
    bias, window_size, *others = INPUTS[case]()
    torch.library.opcheck(ops.select.default, (bias, window_size, *others))
    names = ("attention_mask", "is_causal", "query_len", "key_lengths", "sinks", "local")
    selected = dmask.select(bias.detach(), window_size, **dict(zip(names, others, strict=False)))
    torch.library.opcheck(ops.kept_indices.default, (*selected._selected(), window_size))
    torch.library.opcheck(ops.kept_blocks.default, (*selected._selected(), 4, 8))
    indices = selected.to_indices()
    torch.library.opcheck(ops.mask_from_indices.default, (indices, 16))
    torch.library.opcheck(ops.mask_from_indices.default, (indices.long().clamp(max=3), 16, 4))


def test_meta_and_fake_tensors() -> None:
    bias, mask = scores(2, 4, 3, 16), allowed(2, 16)
    got = dmask.create_mask(bias.to("meta"), mask.to("meta"), 2, 3, 16, 5)
    assert (got.shape, got.dtype, got.device.type) == ((2, 4, 3, 16), torch.bool, "meta")
    with FakeTensorMode() as mode:
        fakes = mode.from_tensor(bias), mode.from_tensor(mask)
        got = dmask.create_mask(*fakes, 2, 3, 16, 5)
        assert (got.shape, got.dtype, got.device.type) == ((2, 4, 3, 16), torch.bool, "cpu")
        indices = dmask.topk_indices(fakes[0], None, 7)
        assert (indices.shape, indices.dtype) == ((2, 4, 3, 7), torch.int32)


def test_vmap_of_the_other_ops() -> None:
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


def test_results_are_new_and_without_grad() -> None:
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


def test_import_brings_no_compiler() -> None:
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
