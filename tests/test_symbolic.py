"""Sizes that are unknown while tracing: `mark_unbacked`, and numbers read from tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.decorators import mark_unbacked

import dmask
from tests.support.scores import scores

BIAS, PER_KEY = scores(2, 4, 5, 16), scores(2, 4, 1, 16)
PADDING, MASK = scores(2, 16) > -1, scores(2, 4, 5, 16) > -1
LENGTHS = torch.tensor([16, 9])


def create(bias: Tensor, mask: Tensor | None = None, type: str = "topk") -> Tensor:
    return dmask.create_mask(bias, mask, bias.shape[0], bias.shape[2], bias.shape[3], 4, type=type)


def maybe(bias: Tensor, mask: Tensor) -> Tensor | None:
    return dmask.maybe_create_mask(bias, mask, bias.shape[0], bias.shape[2], bias.shape[3], 4)


def causal(bias: Tensor) -> Tensor:
    return dmask.select(bias, 4, is_causal=True).to_indices()


CALLS: dict[str, tuple[Callable[..., Tensor | None], tuple[Tensor, ...]]] = {
    "create_mask": (create, (BIAS,)),
    "create_mask, padding": (create, (BIAS, PADDING)),
    "create_mask, mask": (create, (BIAS, MASK)),
    "create_mask, topp": (lambda bias: create(bias, type="topp"), (BIAS,)),
    "create_mask, block_topk": (lambda bias: create(bias, type="block_topk"), (BIAS,)),
    "maybe_create_mask": (maybe, (BIAS, PADDING)),
    "topk_mask": (lambda bias, mask: dmask.topk_mask(bias, mask, 4), (BIAS, MASK)),
    "topk_indices": (lambda bias, mask: dmask.topk_indices(bias, mask, 4), (BIAS, MASK)),
    "relu_mask": (dmask.relu_mask, (BIAS, MASK)),
    "block_smooth": (lambda mask, allowed: dmask.block_smooth(mask, 3, allowed), (MASK, MASK)),
    "select": (
        lambda bias, mask: dmask.select(bias, 4, attention_mask=mask).to_mask(),
        (BIAS, MASK),
    ),
    "select, causal": (causal, (BIAS,)),
    "select, lengths": (
        lambda bias, lengths: dmask.select(bias, 4, key_lengths=lengths).to_mask(),
        (BIAS, LENGTHS),
    ),
    "mask_from_indices": (
        lambda indices: dmask.mask_from_indices(indices, 16),
        (dmask.topk_indices(BIAS, None, 4),),
    ),
}
DIMENSIONS = [
    (name, place, dim)
    for name, (_, tensors) in CALLS.items()
    for place, tensor in enumerate(tensors)
    for dim in range(tensor.dim())
]


@pytest.mark.parametrize(("name", "place", "dim"), DIMENSIONS)
def test_an_unbacked_dimension(name: str, place: int, dim: int) -> None:
    fn, tensors = CALLS[name]
    if name == "select" and dim == 1:
        _skip_unbacked_heads()
    marked = [tensor.clone() for tensor in tensors]
    mark_unbacked(marked[place], dim)
    if name == "block_smooth":  # both are made from one mask
        mark_unbacked(marked[1 - place], dim)
    compiled = torch.compile(fn, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*marked), fn(*tensors))


def _skip_unbacked_heads() -> None:
    """Skips cases in which PyTorch cannot repeat heads an unbacked number of times."""
    if torch.__version__ < "2.13":
        pytest.skip("repeat_interleave an unbacked number of times needs torch 2.13")


@pytest.mark.parametrize("name", ["create_mask, mask", "topk_mask", "select"])
def test_all_dimensions_unbacked(name: str) -> None:
    fn, tensors = CALLS[name]
    if name == "select":
        _skip_unbacked_heads()
    marked = [tensor.clone() for tensor in tensors]
    for tensor in marked:
        for dim in range(4):
            mark_unbacked(tensor, dim)
    compiled = torch.compile(fn, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*marked), fn(*tensors))


WINDOWED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "create_mask": lambda bias, window: dmask.create_mask(bias, None, 2, 5, 16, window.item()),
    "topk_mask": lambda bias, window: dmask.topk_mask(bias, None, window.item()),
    "topk_indices": lambda bias, window: dmask.topk_indices(bias, None, window.item()),
    "select": lambda bias, window: dmask.select(bias, window.item()).to_indices(),
}


@pytest.mark.parametrize("name", WINDOWED)
@torch._dynamo.config.patch(capture_scalar_outputs=True)  # the default from torch 2.13 on
def test_a_window_read_from_a_tensor(name: str) -> None:
    fn = WINDOWED[name]
    compiled = torch.compile(fn, fullgraph=True, backend="eager")
    for window in (4, 7):
        assert torch.equal(compiled(BIAS, torch.tensor(window)), fn(BIAS, torch.tensor(window)))
    with pytest.raises(Exception, match="window_size must be at least 1, got 0"):
        compiled(BIAS, torch.tensor(0))
