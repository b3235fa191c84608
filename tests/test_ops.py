"""The ops as PyTorch sees them: schemas, opcheck, meta, fake, vmap, grad, autocast, export."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import expecttest
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import grad, jacrev, jvp, vmap

import dmask
from dmask.ops import op_names
from tests.test_mask import scores

OPS = torch.ops.dmask


def allowed(*shape: int) -> Tensor:
    return scores(*shape) > -0.5


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


def test_create_mask_op_needs_nothing_but_torch_ops() -> None:
    """An integration may hold torch.ops alone: defaults and keywords of the schema serve it."""
    bias, mask = scores(2, 4, 3, 16), allowed(2, 16)
    got = OPS.create_mask(bias, mask, 2, 3, 16, 5, type="topk", tie_break="lowest")
    expected = dmask.create_mask(bias, mask, 2, 3, 16, 5, tie_break="lowest")
    assert torch.equal(got, expected)


# ------------------------------------------------------------------ devices that hold no data


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


# ------------------------------------------------------------------ vmap


def make(bias: Tensor, mask: Tensor | None) -> Tensor:
    return dmask.create_mask(bias, mask, 2, 3, 16, 5, tie_break="lowest")


def loop(fn: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    return torch.stack([fn(*slices) for slices in zip(*stacks, strict=True)])


@pytest.mark.parametrize("bias_shape", [(2, 4, 3, 16), (1, 4, 3, 16), (2, 2, 1, 16), (1, 1, 1, 1)])
@pytest.mark.parametrize("mask_shape", [(2, 1, 3, 16), (1, 4, 1, 16), (2, 16), (2, 3), (1, 16)])
def test_vmap(bias_shape: tuple[int, ...], mask_shape: tuple[int, ...]) -> None:
    biases, masks = scores(5, *bias_shape), allowed(5, *mask_shape)
    assert torch.equal(vmap(make)(biases, masks), loop(make, biases, masks))
    for dim in range(biases.dim()):
        moved = biases.movedim(0, dim)
        got = vmap(make, in_dims=(dim, -1))(moved, masks.movedim(0, -1))
        assert torch.equal(got, loop(make, biases, masks))
    one = vmap(make, in_dims=(0, None))(biases, masks[0])
    assert torch.equal(one, torch.stack([make(bias, masks[0]) for bias in biases]))
    one = vmap(make, in_dims=(None, 0))(biases[0], masks)
    assert torch.equal(one, torch.stack([make(biases[0], mask) for mask in masks]))
    nested = vmap(vmap(make, in_dims=(0, None)), in_dims=(None, 0))(biases, masks)
    assert torch.equal(
        nested, torch.stack([torch.stack([make(b, m) for b in biases]) for m in masks])
    )


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


def test_vmap_over_nothing() -> None:
    got = vmap(make)(scores(0, 2, 4, 3, 16), allowed(0, 2, 16))
    assert got.shape == (0, 2, 4, 3, 16)


# ------------------------------------------------------------------ functions that use a mask


def kept_sum(bias: Tensor) -> Tensor:
    return (bias.square() * dmask.create_mask(bias, None, 2, 3, 16, 5)).sum()


def test_gradients_pass_by_the_mask() -> None:
    bias = scores(2, 4, 3, 16)
    mask = dmask.create_mask(bias, None, 2, 3, 16, 5)
    expected = 2 * bias * mask
    assert torch.equal(grad(kept_sum)(bias), expected)
    assert torch.equal(jacrev(kept_sum)(bias), expected)
    _, tangent = jvp(kept_sum, (bias,), (torch.ones_like(bias),))
    torch.testing.assert_close(tangent, expected.sum())
    leaf = bias.clone().requires_grad_()
    kept_sum(leaf).backward()
    assert torch.equal(leaf.grad, expected)
    stacked = scores(5, 2, 4, 3, 16)
    assert torch.equal(vmap(grad(kept_sum))(stacked), loop(grad(kept_sum), stacked))


def test_autocast_and_inference_mode_change_nothing() -> None:
    bias, mask = scores(2, 4, 3, 16), allowed(2, 16)
    expected = make(bias, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(make(bias, mask), expected)
    with torch.inference_mode():
        assert torch.equal(make(bias.clone(), mask), expected)


class Mask(torch.nn.Module):
    def forward(self, bias: Tensor, mask: Tensor) -> Tensor:
        batch, _, queries, keys = bias.shape
        return dmask.create_mask(bias, mask, batch, queries, keys, 5)


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_dynamic_lengths(strict: bool) -> None:
    auto = torch.export.Dim.DYNAMIC
    shapes: dict[str, Any] = {"bias": {0: auto, 2: auto, 3: auto}, "mask": {0: auto, 1: auto}}
    program = torch.export.export(
        Mask(), (scores(2, 4, 3, 16), allowed(2, 16)), dynamic_shapes=shapes, strict=strict
    )
    for batch, queries, keys in [(2, 3, 16), (3, 7, 33), (4, 2, 5)]:
        inputs = scores(batch, 4, queries, keys), allowed(batch, keys)
        assert torch.equal(program.module()(*inputs), Mask()(*inputs))


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
