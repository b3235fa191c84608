"""dmask works if a private PyTorch API is missing or changed, whatever modes are active at import."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch._inductor.fx_passes.post_grad
import torch.fx.experimental.symbolic_shapes

from dmask import compat

USE_EVERYTHING = """
import torch
import dmask

bias = torch.linspace(-1.0, 1.0, 2 * 2 * 3 * 16).view(2, 2, 3, 16).cos()
mask = torch.arange(16)[None].expand(2, 16) != 3

def all_of(bias, mask):
    selected = dmask.select(bias, 4, attention_mask=mask, is_causal=True)
    kept = dmask.create_mask(bias, mask, 2, 3, 16, 4)
    return (
        kept,
        dmask.maybe_create_mask(bias, mask, 2, 3, 16, 4, type="topp", options={"p": 0.5}),
        dmask.dynamic_mask(bias, None, 4),
        dmask.topk_mask(bias, None, 4, tie_break="lowest"),
        dmask.relu_mask(bias, None),
        dmask.topk_indices(bias, None, 4),
        dmask.block_smooth(kept, 4),
        selected.threshold,
        selected.to_mask(),
        selected.to_bias(scores=True),
        selected.to_indices(),
        dmask.mask_from_indices(selected.to_indices(), 16),
        dmask.dynamic_mask_attention(bias, bias, bias, bias[..., :3], window_size=2),
    )

def check(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        # Only attention computes sums, and their order depends on the active modes.
        assert torch.allclose(a, b, rtol=0, atol=1e-6) and a.dtype == b.dtype, (a, b)

results = all_of(bias, mask)
assert results[0].sum() == 2 * 2 * 3 * 4 and results[8].any()
check(all_of(bias.clone().requires_grad_(), mask), results)
assert not dmask.select(bias.clone().requires_grad_(), 4).threshold.requires_grad
threshold, cutoff = torch.ops.dmask.select(bias.clone().requires_grad_(), 4)
assert not threshold.requires_grad
with torch.inference_mode():
    check(all_of(bias, mask), results)
assert dmask.select(bias, 4).to_block_mask(4).kv_num_blocks.sum() > 0
"""

REGISTER = """
def above(attention_bias: torch.Tensor, attention_mask: torch.Tensor | None, limit: float = 0.0) -> torch.Tensor:
    return attention_bias > limit

def below(attention_bias: torch.Tensor, attention_mask: torch.Tensor | None, size: int = 0) -> torch.Tensor:
    return attention_bias < size

for function in (above, below, above):
    dmask.register_strategy("mine", function)
    kept = dmask.create_mask(bias, None, 2, 3, 16, None, type="mine")
    assert torch.equal(kept, function(bias, None))
    held, packet = torch.ops.dmask.mine_mask.default, torch.ops.dmask.mine_mask
    dmask.unregister_strategy("mine")
    assert "mine" not in dmask.strategies() and not hasattr(torch.ops.dmask, "mine_mask")
    for op in (held, packet):
        try:
            op(bias, None)
        except RuntimeError as error:
            assert "dmask.mine_mask was unregistered" in str(error), error
        else:
            raise AssertionError("a removed op ran")
"""

COMPILE = """
vmapped = torch.func.vmap(lambda b: dmask.topk_mask(b, None, 4, tie_break="lowest"))(bias[None])
assert torch.equal(vmapped[0], results[3])
compiled = torch.compile(all_of, fullgraph=True, backend="aot_eager", dynamic=True)
check(compiled(bias, mask), results)
"""

HIDE = """
import torch._dynamo, torch._inductor.pattern_matcher, torch._inductor.fx_passes.post_grad
import torch.fx.experimental.symbolic_shapes, torch.nn.attention.flex_attention
import torch._inductor.compile_fx
from torch.fx.experimental.sym_node import SymNode

hidden = []

def hide(owner, name, *other):
    if hasattr(owner, name):
        hidden.append((owner, name, getattr(owner, name)))
        delattr(owner, name)
        if other:
            setattr(owner, name, *other)

def restore():
    for owner, name, value in hidden:
        setattr(owner, name, value)
"""
RESTORE = "restore()"

GONE = {
    "nothing": ("", ""),
    # PyTorch itself cannot compile without the APIs that are restored.
    "_dispatch_keys": ('hide(torch._C, "_dispatch_keys")', RESTORE),
    "_dispatch_keys, changed": ('hide(torch._C, "_dispatch_keys", lambda *a: 0 / 0)', RESTORE),
    "_dispatch_keys, other result": ('hide(torch._C, "_dispatch_keys", lambda *a: 7)', RESTORE),
    "_dispatch_tls_local_include_set": (
        'hide(torch._C, "_dispatch_tls_local_include_set")',
        RESTORE,
    ),
    "DispatchKeySet": ('hide(torch._C, "DispatchKeySet", None)', RESTORE),
    "_profiler_enabled": ('hide(torch._C._autograd, "_profiler_enabled")', RESTORE),
    "_len_torch_function_stack": ('hide(torch._C, "_len_torch_function_stack")', RESTORE),
    "_AutoDispatchBelowAutograd": ('hide(torch._C, "_AutoDispatchBelowAutograd")', RESTORE),
    "parse_schema": ('hide(torch._C, "parse_schema")', RESTORE),
    "_destroy": ('hide(torch.library.Library, "_destroy")', ""),
    "_assert_async": ('hide(torch, "_assert_async")', RESTORE),
    "register_pytree_node": ('hide(torch.utils._pytree, "register_pytree_node")', RESTORE),
    "guard_or_false": ('hide(torch.fx.experimental.symbolic_shapes, "guard_or_false")', RESTORE),
}
"""For each API: the code that hides it before dmask is imported, and the code that restores it
before compiling.
"""


def run(*parts: str) -> None:
    program = "\n".join(["import torch", *parts])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("api", GONE)
def test_everything_works_without(api: str) -> None:
    hidden, restored = GONE[api]
    run(HIDE, hidden, USE_EVERYTHING, REGISTER, restored, COMPILE)


def test_apis_may_go_after_the_import() -> None:
    later = [hidden for name, (hidden, _) in GONE.items() if name.startswith("_")]
    run("import dmask", HIDE, *later, USE_EVERYTHING, REGISTER)


@pytest.mark.parametrize("name", ["register_graph_pattern", "CallFunctionVarArgs"])
@pytest.mark.parametrize("changed", [False, True])
def test_small_masks_stay_ops_without_the_pattern_matcher(
    name: str, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = torch._inductor.pattern_matcher
    if changed:
        monkeypatch.setattr(matcher, name, lambda: None)
    else:
        monkeypatch.delattr(matcher, name)
    assert not compat.rewrite_after_grad(torch.ops.dmask.topk_mask.default, bool, print)


def test_small_masks_stay_ops_without_pass_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._inductor.fx_passes.post_grad, "pass_patterns")
    assert not compat.rewrite_after_grad(torch.ops.dmask.topk_mask.default, bool, print)


class Node:
    """The node of a symbolic number in a release without hints."""


class HintedNode:
    hint = 7


def test_sizes_have_hints_where_a_release_gives_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.fx.experimental.symbolic_shapes, "optimization_hint", raising=False)
    assert compat.size_hint(3) == 3
    assert compat.size_hint(SimpleNamespace(node=HintedNode())) == 7
    assert compat.size_hint(SimpleNamespace(node=Node())) is None


IMPORTS = {
    "inference mode": "with torch.inference_mode(): import dmask",
    "no grad": "with torch.no_grad(): import dmask",
    "fake tensors": """
from torch._subclasses import FakeTensorMode
with FakeTensorMode(): import dmask""",
    "another default device": "with torch.device('meta'): import dmask",
    "another default dtype": """
torch.set_default_dtype(torch.float64)
import dmask
torch.set_default_dtype(torch.float32)""",
    "autocast": "with torch.autocast('cpu', dtype=torch.bfloat16): import dmask",
    "a profiler": "with torch.profiler.profile(): import dmask",
}
IS_DIRECT = """
from dmask.contracts import create_mask, dispatch
plain = (bias, None, 2, 3, 16, 4, None, None, "topk", "torch", "")
assert dispatch.is_direct(create_mask.SPEC, plain)
with torch.inference_mode():
    assert dispatch.is_direct(create_mask.SPEC, plain)
    assert dispatch.is_direct(create_mask.SPEC, (bias.clone(), *plain[1:]))
from torch._subclasses import FakeTensorMode
with FakeTensorMode() as mode:
    fake = mode.from_tensor(bias)
    assert not dispatch.is_direct(create_mask.SPEC, (fake, *plain[1:]))
    assert dmask.create_mask(fake, None, 2, 3, 16, 4).shape == (2, 2, 3, 16)
assert not dispatch.is_direct(create_mask.SPEC, (fake, *plain[1:]))
"""


@pytest.mark.parametrize("where", IMPORTS)
def test_where_dmask_is_imported_changes_nothing(where: str) -> None:
    run(IMPORTS[where], USE_EVERYTHING, REGISTER, IS_DIRECT)


def test_a_profiler_shows_the_op_in_eager_mode() -> None:
    run(
        USE_EVERYTHING,
        """
with torch.profiler.profile() as profiler:
    dmask.create_mask(bias, mask, 2, 3, 16, 4)
    dmask.select(bias, 4)
names = {event.key for event in profiler.key_averages()}
assert {"dmask::create_mask", "dmask::select"} <= names, names
""",
    )
