"""Generated calls give the same bits on a GPU as on the CPU: 21,000 calls, in parts for workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor

import dmask
from tests.support.generate import Call, Select, calls, selects

PARTS = 15
EXAMPLES = {40: 400, 5_000: 60, 2**20: 20}
"""How many calls each part of a test makes, by the maximum number of keys."""

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.parametrize("part", range(PARTS)),
    pytest.mark.parametrize("max_key_len", EXAMPLES),
]

STRATEGIES: tuple[dict[str, Any], ...] = (
    {"type": "topk", "tie_break": "lowest"},
    {"type": "topk", "tie_break": "lowest", "block_size": 3},
    {"type": "relu"},
    {"type": "ratio", "options": {"ratio": 0.3}},
    {"type": "block_topk", "options": {"key_block": 4}},
    {"type": "block_topk", "options": {"key_block": 64, "pool": "mean"}},
    {"type": "topp", "options": {"p": 0.8}},
)


def on_cuda(tensor: Tensor | None) -> Any:
    """Copies a tensor with its strides, which `Tensor.cuda` does not keep if elements repeat."""
    if tensor is None:
        return None
    copy = torch.empty(0, dtype=tensor.dtype, device="cuda")
    storage = tensor.untyped_storage().cuda()
    return copy.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def assert_same(found: Any, wanted: Any) -> None:
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=0, equal_nan=True)


def check_on(
    part: int,
    max_key_len: int,
    generated: Callable[[int], st.SearchStrategy[Any]],
    check: Callable[[Any, st.DataObject], None],
) -> None:
    @seed(part)
    @settings(
        max_examples=EXAMPLES[max_key_len],
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking would compile kernels for every smaller size
    )
    @given(generated(max_key_len), st.data())
    def run(call: Any, data: st.DataObject) -> None:
        check(call, data)

    run()


def test_masks(part: int, max_key_len: int) -> None:
    def check(call: Call, data: st.DataObject) -> None:
        rest = (*call.sizes, call.window_size, call.min_dtype)
        options = data.draw(st.sampled_from(STRATEGIES))
        wanted = dmask.create_mask(call.bias, call.mask, *rest, **options)
        there = on_cuda(call.bias), on_cuda(call.mask)
        assert_same(dmask.create_mask(*there, *rest, **options), wanted)

    check_on(part, max_key_len, calls, check)


def test_indices(part: int, max_key_len: int) -> None:
    def check(call: Call, data: st.DataObject) -> None:
        bias, mask = call.full()
        rest = call.window_size, call.min_dtype
        wanted = dmask.topk_indices(bias, mask, *rest)
        found = dmask.topk_indices(on_cuda(bias), on_cuda(mask), *rest)
        assert_same(found, wanted)
        masks = dmask.mask_from_indices(found, call.sizes[2], attention_mask=on_cuda(mask))
        assert_same(masks, dmask.mask_from_indices(wanted, call.sizes[2], attention_mask=mask))

    check_on(part, max_key_len, calls, check)


def test_selections(part: int, max_key_len: int) -> None:
    def check(call: Select, data: st.DataObject) -> None:
        wanted = dmask.select(call.bias, call.window_size, **call.options)
        tensors = {"attention_mask": on_cuda(call.mask), "key_lengths": on_cuda(call.lengths)}
        if call.ranges is not None:
            tensors["key_ranges"] = tuple(map(on_cuda, call.ranges))
        found = dmask.select(on_cuda(call.bias), call.window_size, **call.options | tensors)
        assert_same(found.threshold, wanted.threshold)
        assert_same(found.cutoff, wanted.cutoff)
        assert_same(found.to_mask(), wanted.to_mask())
        assert_same(found.to_indices(), wanted.to_indices())
        block_size = data.draw(st.sampled_from([3, 16, 128]))
        there, here = (chosen.to_block_mask(block_size) for chosen in (found, wanted))
        for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
            assert_same(getattr(there, name), getattr(here, name))

    check_on(part, max_key_len, selects, check)
