"""`dynamic_mask_attention` against a plain loop over rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import dmask
from tests.conftest import Mode
from tests.support.inlined import inlined_path
from tests.support.scores import scores


def inputs(dtype: torch.dtype = torch.float32, groups: int = 2) -> tuple[Tensor, ...]:
    """Returns query, key, value and a bias per key, for 5 queries after a cache of 4."""
    return tuple(
        tensor.to(dtype).requires_grad_()
        for tensor in (
            scores(2, 2 * groups, 5, 8),
            scores(2, 2, 9, 8) + 1,
            scores(2, 2, 9, 6) - 1,
            scores(2, 2, 1, 9).abs(),
        )
    )


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    window: int,
    causal: bool,
) -> Tensor:
    """Computes each row separately, with a softmax over its kept keys."""
    output = torch.zeros(*query.shape[:3], value.shape[3], dtype=torch.float64)
    groups = query.shape[1] // key.shape[1]
    rows = [(b, h, q) for b in range(2) for h in range(query.shape[1]) for q in range(5)]
    outputs = []
    for b, h, q in rows:
        allowed = torch.ones(9, dtype=torch.bool) if mask is None else mask[b].bool()
        if causal:
            allowed = allowed & (torch.arange(9) <= q + 4)
        row = bias[b, h // groups, 0]
        kept = inlined_path(row[None].float(), allowed[None], window)[0].nonzero().flatten()
        keys, values = key[b, h // groups, kept].double(), value[b, h // groups, kept].double()
        logits = keys @ query[b, h, q].double() / 8**0.5 + row[kept].double()
        outputs.append(logits.softmax(0) @ values if len(kept) else values.sum(0))
    return torch.stack(outputs).view_as(output)


PADDING = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 0]])


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, PADDING], ids=["no mask", "padding"])
def test_outputs_and_gradients(
    mode: Mode, backend: str, groups: int, causal: bool, mask: Tensor | None
) -> None:
    tensors = inputs(groups=groups)
    options: dict[str, Any] = {"window_size": 3, "is_causal": causal, "backend": backend}
    output = mode(dmask.dynamic_mask_attention)(*tensors, mask, **options)
    expected = written_out(*tensors, mask, 3, causal)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    weights = scores(*output.shape)
    got = torch.autograd.grad((output * weights).sum(), tensors)
    want = torch.autograd.grad((expected * weights).sum(), tensors)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_without_keys_gives_zeros_and_finite_gradients(
    mode: Mode, backend: str, dtype: torch.dtype
) -> None:
    tensors = inputs(dtype)
    nothing = torch.zeros(2, 9, dtype=torch.bool)
    nothing[1, 3:] = True
    for window in (None, 3):
        output = mode(dmask.dynamic_mask_attention)(
            *tensors, nothing, window_size=window, is_causal=True, backend=backend
        )
        assert output[0].eq(0).all()
        assert output[1].ne(0).all()
        for gradient in torch.autograd.grad(output.float().sum(), tensors):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_without_bias_and_mask_it_is_plain_attention(mode: Mode, backend: str) -> None:
    query, key, value, _ = inputs()
    output = mode(dmask.dynamic_mask_attention)(query, key, value, backend=backend)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


def test_a_window_of_all_keys_changes_nothing(mode: Mode) -> None:
    tensors = inputs()
    attend = mode(dmask.dynamic_mask_attention)
    whole = attend(*tensors, is_causal=True)
    assert torch.equal(attend(*tensors, is_causal=True, window_size=9), whole)
    assert torch.equal(attend(*tensors, is_causal=True, window_size=99), whole)


def test_future_keys_do_not_leak() -> None:
    """Changes to future keys, values and scores do not change earlier rows."""
    query, key, value, bias = (tensor.detach() for tensor in inputs())
    before = dmask.dynamic_mask_attention(query, key, value, bias, window_size=3, is_causal=True)
    key[:, :, 6:], value[:, :, 6:], bias[..., 6:] = 9.0, 9.0, 99.0
    after = dmask.dynamic_mask_attention(query, key, value, bias, window_size=3, is_causal=True)
    assert torch.equal(after[:, :, :2], before[:, :, :2])
    assert not torch.equal(after[:, :, 2:], before[:, :, 2:])


def test_scale_is_used(mode: Mode) -> None:
    tensors = tuple(tensor.detach() for tensor in inputs())
    for backend in ("sdpa", "eager"):
        one = mode(dmask.dynamic_mask_attention)(
            *tensors, window_size=3, scale=0.1, backend=backend
        )
        scaled = (tensors[0] * 0.1 * 8**0.5, *tensors[1:])
        two = mode(dmask.dynamic_mask_attention)(*scaled, window_size=3, backend=backend)
        torch.testing.assert_close(one, two)
