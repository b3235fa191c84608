"""Inductor replaces small masks with operations, and ops on CUDA with launches of kernels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.utils import run_and_get_code
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

import dmask
from dmask.contracts import dispatch
from dmask.contracts.dispatch import FEW_SCORES
from dmask.contracts.spec import forget_plans
from tests.support.scores import scores


def create(bias: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    batch, _, queries, keys = bias.shape
    return dmask.create_mask(bias, mask, batch, queries, keys, 7, **kwargs)


def code_of(fn: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, bool]:
    """Returns the result of a compiled call, and True if its code calls an op of dmask."""
    result, codes = run_and_get_code(torch.compile(fn, fullgraph=True, **options), *args)
    return result, any("torch.ops.dmask" in code for code in codes)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["normal", "tied", "special"])
def test_a_small_mask_is_a_few_operations(dynamic: bool, kind: str) -> None:
    bias = scores(2, 4, 3, 33)
    bias = bias.round() if kind == "tied" else bias
    if kind == "special":
        bias[..., ::5], bias[..., ::7], bias[..., ::11] = -torch.inf, torch.nan, -0.0
    for mask in (None, scores(2, 33) > -0.5, (scores(1, 4, 3, 33) > 1).long()):
        got, calls_op = code_of(create, bias, mask, dynamic=dynamic)
        assert not calls_op
        assert torch.equal(got, create(bias, mask))


def test_a_small_topk_mask_is_a_few_operations() -> None:
    got, calls_op = code_of(lambda bias: dmask.topk_mask(bias, None, 7, -0.5), scores(2, 4, 3, 33))
    assert not calls_op
    assert torch.equal(got, dmask.topk_mask(scores(2, 4, 3, 33), None, 7, -0.5))


OTHERS: dict[str, Callable[[], tuple[Callable[..., Any], Tensor]]] = {
    "large": lambda: (create, scores(2, 4, 32, 64)),
    "lowest": lambda: (lambda b: create(b, tie_break="lowest"), scores(2, 4, 3, 33)),
    "smoothed": lambda: (lambda b: create(b, block_size=4), scores(2, 4, 3, 33)),
    "relu": lambda: (lambda b: create(b, type="relu"), scores(2, 4, 3, 33)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_masks_stay_ops(case: str) -> None:
    fn, bias = OTHERS[case]()
    got, calls_op = code_of(fn, bias)
    assert calls_op
    assert torch.equal(got, fn(bias))


def test_a_size_is_a_hint_and_not_a_guard() -> None:
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(create, fullgraph=True, dynamic=True, backend=counter)
    for keys in (30, 300, 9000):
        bias = scores(1, 2, 1, keys).mul(3).round()
        assert torch.equal(compiled(bias), create(bias))
    assert counter.frame_count == 1


def test_a_mask_stays_an_op_next_to_flex_attention() -> None:
    """On the CPU, flex_attention miscompiles captured tensors that a scatter produced."""
    query, key, bias = scores(2, 2, 16, 16), scores(2, 2, 64, 16), scores(2, 2, 16, 64)
    assert bias.numel() <= FEW_SCORES  # small enough to be replaced anywhere else
    value = key.sin()  # torch 2.9 rejects equal buffers

    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        kept = create(bias)

        def score_mod(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return torch.where(kept[b, h, q, k], score, -torch.inf)

        return flex_attention(query, key, value, score_mod=score_mod)

    got, calls_op = code_of(attend, query, key, value, bias)
    assert calls_op
    wanted = scaled_dot_product_attention(query, key, value, attn_mask=create(bias))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ kernels on CUDA


class Hopper:
    """A driver of Triton that knows its device, and nothing more."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets fake tensors be on a GPU that does not exist."""
    driver = pytest.importorskip("triton").runtime.driver
    from dmask.kernels.triton import layout

    monkeypatch.setattr(dispatch, "_why_no_triton", lambda device: None)
    monkeypatch.setattr(layout, "processors", lambda device: 132)
    monkeypatch.setattr(layout, "starts_early", lambda device: True)
    monkeypatch.setattr(layout, "compares_pairs", lambda device: True)
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns if it is not set
    monkeypatch.setattr(driver, "_active", Hopper())
    clear()
    yield
    clear()


def clear() -> None:
    """Forgets plans and launches for devices that do not exist."""
    from dmask.kernels.triton import layout, long_rows, select, topk

    forget_plans()
    for remembered in (layout.tile_of, topk._prepared, select._prepared, long_rows._launches):
        remembered.cache_clear()


def rewritten(
    fn: Callable[[Tensor], Any],
    *shape: int,
    dtype: torch.dtype = torch.float32,
    dynamic: bool = False,
) -> list[str]:
    """Returns the calls in a graph after Inductor's first passes, for a bias on a fake GPU."""
    importlib.import_module("torch._inductor.compile_fx")  # loads what offers the rewrite
    from torch._inductor.fx_passes import post_grad

    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=not dynamic)
    sizes = mode.from_tensor(torch.empty(shape)).shape
    with mode:
        bias = torch.empty(sizes, dtype=dtype, device="cuda")
        graph = make_fx(fn, tracing_mode="symbolic")(bias).graph
        post_grad.pass_patterns[0].apply(graph)
    graph.lint()
    names = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    return [name for name in names if "dmask" in name or "triton" in name]


LAUNCH = "triton_kernel_wrapper_mutation"


def lowest(bias: Tensor) -> Tensor:
    return create(bias, tie_break="lowest")


def indices(bias: Tensor) -> Tensor:
    return dmask.topk_indices(bias, None, 7)


@pytest.mark.usefixtures("fake_gpu")
def test_an_op_becomes_launches() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert rewritten(lowest, 1, 8, 4, 4096, dtype=dtype) == [LAUNCH]
        assert rewritten(lambda bias: indices(bias * 2), 1, 8, 4, 4096, dtype=dtype) == [LAUNCH]
    assert rewritten(lambda bias: lowest(bias * 2), 1, 2, 1, 2**19) == [LAUNCH] * 3
    calls = rewritten(lambda bias: dmask.select(bias, 7, is_causal=True).to_mask(), 1, 2, 4, 512)
    assert calls == [LAUNCH] * 2


@pytest.mark.usefixtures("fake_gpu")
def test_an_op_stays_where_launches_cost_more() -> None:
    op = "dmask.create_mask.default"
    assert rewritten(lowest, 1, 8, 512, 4096) == [op]  # the kernel needs a limit of registers
    # They write where the scores say, so PyTorch believes that they change the input.
    assert rewritten(indices, 1, 8, 4, 4096) == ["dmask.topk_indices.default"]
    of_view = rewritten(lambda bias: indices(bias.view(1, 8, 4, -1).mT.mT), 8, 4, 4096)
    assert of_view == ["dmask.topk_indices.default"]
    assert rewritten(lowest, 1, 2, 1, 2**19) == [op]


@pytest.mark.usefixtures("fake_gpu")
def test_code_without_python_gets_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.virtualized import V

    with V.set_aot_compilation(True):
        assert rewritten(lowest, 1, 8, 512, 4096) == [LAUNCH]
        assert rewritten(indices, 1, 8, 4, 4096) == [LAUNCH]


@pytest.mark.usefixtures("fake_gpu")
def test_ops_that_choose_later_stay() -> None:
    assert rewritten(lowest, 1, 8, 4, 4096, dynamic=True) == ["dmask.create_mask.default"]
    float64 = rewritten(lowest, 1, 8, 4, 4096, dtype=torch.float64)
    assert float64 == ["dmask.create_mask.default"]

    @dmask.register_strategy("above")
    def above(attention_bias: Tensor, attention_mask: Tensor | None) -> Tensor:
        return attention_bias > 0

    try:
        by_type = rewritten(lambda bias: create(bias, type="above"), 1, 8, 4, 4096)
        assert by_type == ["dmask.create_mask.default"]
        by_op = rewritten(lambda bias: torch.ops.dmask.above_mask(bias, None), 1, 8, 4, 4096)
        assert by_op == ["dmask.above_mask.default"]
    finally:
        dmask.unregister_strategy("above")
