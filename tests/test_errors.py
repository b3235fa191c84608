"""Every error of the contracts: its type and its text, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import expecttest
import pytest
import torch

import dmask

BIAS = torch.zeros(2, 2, 3, 8)
MASK = torch.ones(2, 8, dtype=torch.bool)
RANGE = torch.tensor([[0, 1, 2]])


def create(**changes: Any) -> Callable[[], object]:
    """Returns a call to create_mask that is valid except for `changes`."""
    arguments = {
        "attention_bias": BIAS,
        "attention_mask": MASK,
        "batch_size": 2,
        "query_len": 3,
        "key_len": 8,
        "window_size": 4,
    }
    return lambda: dmask.create_mask(**(arguments | changes))


def select(**changes: Any) -> Callable[[], object]:
    return lambda: dmask.select(**({"attention_bias": BIAS, "window_size": 4} | changes))


def keep(**changes: Any) -> Callable[[], object]:
    """Calls `kept_mask` with a selection that keeps every key of `BIAS`, but for the changes."""
    selection = {
        "attention_bias": BIAS,
        "threshold": torch.full((2, 2, 3), -1.0),
        "cutoff": torch.full((2, 2, 3), 7, dtype=torch.int32),
        "attention_mask": None,
        "key_lengths": None,
        "range_starts": None,
        "range_ends": None,
        "query_len": 3,
        "is_causal": False,
        "sinks": 0,
        "local": 0,
        "floor": -9.0,
    }
    return lambda: torch.ops.dmask.kept_mask(*(selection | changes).values())


def attend(**changes: Any) -> Callable[[], object]:
    tensors = {
        "query": torch.zeros(2, 4, 3, 8),
        "key": torch.zeros(2, 2, 5, 8),
        "value": torch.zeros(2, 2, 5, 8),
    }
    return lambda: dmask.dynamic_mask_attention(**(tensors | changes))


def sparse(**changes: Any) -> Callable[[], object]:
    tensors = {
        "query": torch.zeros(2, 4, 3, 8),
        "key": torch.zeros(2, 2, 5, 8),
        "value": torch.zeros(2, 2, 5, 8),
        "indices": RANGE[None, None],
    }
    return lambda: dmask.sparse_attention(**(tensors | changes))


def index(**changes: Any) -> Callable[[], object]:
    given = {
        "index_query": torch.zeros(2, 3, 4, 8),
        "index_key": torch.zeros(2, 5, 8),
        "index_weights": torch.zeros(2, 3, 4),
        "window_size": 4,
    }
    return lambda: dmask.indexer_topk(**(given | changes))


def zeros(*shape: int, **kwargs: Any) -> torch.Tensor:
    return torch.zeros(shape, **kwargs)


BAD_CALLS: dict[str, Callable[[], object]] = {
    "bias of integers": create(attention_bias=zeros(2, 2, 3, 8, dtype=torch.int64)),
    "bias not 4-D": create(attention_bias=zeros(2, 3, 8)),
    "float mask": create(attention_mask=zeros(2, 8)),
    "complex mask": create(attention_mask=zeros(2, 8, dtype=torch.complex64)),
    "3-D mask": create(attention_mask=zeros(2, 3, 8, dtype=torch.bool)),
    "mask of another length": create(attention_mask=zeros(2, 5, dtype=torch.bool)),
    "mask that cannot be padded": create(
        attention_bias=zeros(2, 2, 3, 1), attention_mask=zeros(2, 3, dtype=torch.bool), key_len=2
    ),
    "mask of another batch": create(attention_mask=zeros(3, 8, dtype=torch.bool)),
    "4-D mask of another length": create(attention_mask=zeros(2, 1, 3, 7, dtype=torch.bool)),
    "heads that do not divide": create(attention_mask=zeros(2, 3, 3, 8, dtype=torch.bool)),
    "batch_size against the bias": create(batch_size=3),
    "query_len against the bias": create(query_len=4),
    "key_len against the bias": create(key_len=9),
    "negative size": create(batch_size=-1),
    "two devices": create(attention_mask=zeros(2, 8, dtype=torch.bool, device="meta")),
    "window of 0": create(window_size=0),
    "window of None": create(window_size=None),
    "block of 0": create(block_size=0),
    "floor out of range": create(attention_bias=BIAS.half(), min_dtype=-1e5),
    "floor NaN": create(min_dtype=float("nan")),
    "unknown type": create(type="tpok"),
    "unknown tie_break": create(tie_break="highest"),
    "unknown option": create(type="relu", options={"p": 0.5}),
    "topk_mask: 2-D mask": lambda: dmask.topk_mask(BIAS, MASK, 4),
    "topk_mask: no broadcast": lambda: dmask.topk_mask(BIAS, MASK[:, None, None, :5], 4),
    "topk_mask: window of 0": lambda: dmask.topk_mask(BIAS, None, 0),
    "dynamic_mask: bias of integers": lambda: dmask.dynamic_mask(BIAS.int(), None, 4),
    "relu_mask: float mask": lambda: dmask.relu_mask(BIAS, BIAS),
    "topk_indices: window of 0": lambda: dmask.topk_indices(BIAS, None, 0),
    "block_smooth: float mask": lambda: dmask.block_smooth(BIAS, 2),
    "block_smooth: 2-D": lambda: dmask.block_smooth(MASK, 2),
    "block_smooth: block of 0": lambda: dmask.block_smooth(BIAS > 0, 0),
    "block_smooth: no broadcast": lambda: dmask.block_smooth(BIAS > 0, 2, BIAS[..., :5] > 0),
    "topp: p of 0": create(type="topp", options={"p": 0.0}),
    "ratio: above 1": create(type="ratio", options={"ratio": 1.5}),
    "block_topk: block of 0": create(type="block_topk", options={"key_block": 0}),
    "block_topk: pool": create(type="block_topk", options={"pool": "min"}),
    "block_topk: no window": create(type="block_topk", window_size=None),
    "option of another type": create(type="topp", options={"p": [0.5]}),
    "select: bias of integers": select(attention_bias=BIAS.int()),
    "select: window of 0": select(window_size=0),
    "select: sinks and local": select(sinks=3, local=2),
    "select: negative sinks": select(sinks=-1),
    "select: float mask": select(attention_mask=BIAS),
    "select: mask heads": select(attention_mask=zeros(2, 3, 3, 8, dtype=torch.bool)),
    "select: query_len against the bias": select(query_len=5),
    "select: float key_lengths": select(key_lengths=zeros(2)),
    "select: 2-D key_lengths": select(key_lengths=zeros(2, 1, dtype=torch.int64)),
    "select: key_lengths of another batch": select(key_lengths=zeros(3, dtype=torch.int64)),
    "select: two devices": select(key_lengths=zeros(2, dtype=torch.int64, device="meta")),
    "select: floor NaN": select(min_dtype=float("nan")),
    "select: one range": select(key_ranges=(RANGE,)),
    "select: a range of None": select(key_ranges=(RANGE, None)),
    "select: a tensor of ranges": select(key_ranges=RANGE),
    "select: float ranges": select(key_ranges=(RANGE, RANGE.float())),
    "select: 1-D ranges": select(key_ranges=(RANGE[0], RANGE)),
    "select: ranges of another batch": select(key_ranges=(RANGE.expand(3, 3), RANGE)),
    "select: ranges of other queries": select(key_ranges=(RANGE, RANGE[:, :2])),
    "select: ranges on two devices": select(key_ranges=(RANGE, RANGE.to("meta"))),
    "select: causal ranges": select(key_ranges=(RANGE, RANGE), is_causal=True),
    "select: ranges and lengths": select(key_ranges=(RANGE, RANGE), key_lengths=RANGE[0, :1]),
    "mask_mod: heads": lambda: dmask.select(BIAS, 4).mask_mod(num_heads=3),
    "to_block_mask: block of 0": lambda: dmask.select(BIAS, 4).to_block_mask((0, 4)),
    "to_block_map: block of 0": lambda: dmask.select(BIAS, 4).to_block_map((4, 0)),
    "to_block_map: three sizes": lambda: dmask.select(BIAS, 4).to_block_map((4, 4, 4)),  # type: ignore[arg-type]
    "to_indices: fill": lambda: dmask.select(BIAS, 4).to_indices(fill=2**31),
    "to_indices: multiple of 0": lambda: dmask.select(BIAS, 4).to_indices(multiple_of=0),
    "kept_indices: bounds": lambda: torch.ops.dmask.kept_indices(
        BIAS, BIAS[..., 0], MASK[None].int(), None, None, None, None, 3, False, 0, 0, 0.0, 4
    ),
    "kept_mask: bounds": lambda: torch.ops.dmask.kept_mask(
        BIAS, BIAS[..., 0], BIAS[0, ..., 0], None, None, None, None, 3, False, 0, 0, 0.0
    ),
    "kept_mask: rows": keep(query_len=5),
    "kept_mask: float64 threshold": keep(threshold=zeros(2, 2, 3, dtype=torch.float64)),
    "kept_mask: int64 cutoff": keep(cutoff=zeros(2, 2, 3, dtype=torch.int64)),
    "kept_mask: rows of another batch": keep(
        threshold=zeros(4, 2, 3), cutoff=zeros(4, 2, 3, dtype=torch.int32)
    ),
    "kept_mask: rows of fewer heads": keep(
        threshold=zeros(2, 1, 3), cutoff=zeros(2, 1, 3, dtype=torch.int32)
    ),
    "kept_mask: mask of another length": keep(attention_mask=zeros(2, 1, 1, 5, dtype=torch.bool)),
    "kept_mask: mask heads": keep(attention_mask=zeros(2, 3, 3, 8, dtype=torch.bool)),
    "kept_mask: mask on another device": keep(
        attention_mask=zeros(2, 1, 1, 8, dtype=torch.bool, device="meta")
    ),
    "kept_mask: key_lengths of another batch": keep(key_lengths=zeros(5, dtype=torch.int64)),
    "kept_mask: one range": keep(range_starts=RANGE),
    "kept_mask: ranges of other queries": keep(range_starts=RANGE[:, :2], range_ends=RANGE),
    "kept_mask: negative sinks": keep(sinks=-1),
    "kept_mask: negative local": keep(local=-1),
    "kept_mask: floor NaN": keep(floor=float("nan")),
    "kept_blocks: counts beyond 2^31": lambda: dmask.select(
        zeros(1, 1, 1, 65536), 1, query_len=65536
    ).to_block_mask(65536),
    "block_lists: int64": lambda: torch.ops.dmask.block_lists(BIAS.long(), 16),
    "block_lists: 3-D": lambda: torch.ops.dmask.block_lists(BIAS[0].int(), 16),
    "block_lists: whole": lambda: torch.ops.dmask.block_lists(BIAS.int(), 0),
    "mask_from_indices: float": lambda: dmask.mask_from_indices(BIAS, 8),
    "mask_from_indices: 2-D": lambda: dmask.mask_from_indices(RANGE, 8),
    "mask_from_indices: 3-D and a 4-D mask": lambda: dmask.mask_from_indices(
        BIAS[0].int(), 8, attention_mask=BIAS > 0
    ),
    "mask_from_indices: out_of_range": lambda: dmask.mask_from_indices(
        BIAS.int(), 8, out_of_range="drop"
    ),
    "mask_from_indices: dtype of a bool mask": lambda: dmask.mask_from_indices(
        BIAS.int(), 8, dtype=torch.float16
    ),
    "mask_from_indices: integer dtype": lambda: dmask.mask_from_indices(
        BIAS.int(), 8, fill=0.0, dtype=torch.int64
    ),
    "topk_indices: 3-D bias, 4-D mask": lambda: dmask.topk_indices(BIAS[0], BIAS > 0, 4),
    "packed_ranges: float": lambda: dmask.packed_ranges(BIAS, RANGE[0], 3),
    "packed_ranges: 2-D": lambda: dmask.packed_ranges(RANGE[0], RANGE, 3),
    "packed_ranges: empty": lambda: dmask.packed_ranges(RANGE[0, :0], RANGE[0, :0], 3),
    "packed_ranges: lengths": lambda: dmask.packed_ranges(RANGE[0], RANGE[0, :2], 3),
    "packed_ranges: negative": lambda: dmask.packed_ranges(RANGE[0], RANGE[0], -3),
    "packed_ranges: two devices": lambda: dmask.packed_ranges(RANGE[0], RANGE[0].to("meta"), 3),
    "page_indices: float": lambda: dmask.page_indices(RANGE, RANGE.float(), 4),
    "page_indices: 1-D table": lambda: dmask.page_indices(RANGE, RANGE[0], 4),
    "page_indices: no dimension": lambda: dmask.page_indices(RANGE[0, 0], RANGE, 4),
    "page_indices: another batch": lambda: dmask.page_indices(
        RANGE.expand(3, 3), RANGE.expand(2, 3), 4
    ),
    "page_indices: page of 0": lambda: dmask.page_indices(RANGE, RANGE, 0),
    "page_indices: two devices": lambda: dmask.page_indices(RANGE, RANGE.to("meta"), 4),
    "mask_from_indices: past the end": lambda: dmask.mask_from_indices(BIAS.int() + 8, 8),
    "mask_from_indices: block past the end": lambda: dmask.mask_from_indices(
        BIAS.int() + 2, 8, block_size=4
    ),
    "mask_from_indices: negative": lambda: dmask.mask_from_indices(BIAS.int(), -1),
    "mask_from_indices: block of 0": lambda: dmask.mask_from_indices(BIAS.int(), 8, block_size=0),
    "mask_from_indices: 2-D mask": lambda: dmask.mask_from_indices(
        BIAS.int(), 8, attention_mask=MASK
    ),
    "mask_from_indices: mask length": lambda: dmask.mask_from_indices(
        BIAS.int(), 8, attention_mask=BIAS[..., :5]
    ),
    "indexer_topk: key dtype": index(index_key=zeros(2, 5, 8).half()),
    "indexer_topk: integer weights": index(index_weights=zeros(2, 3, 4, dtype=torch.int64)),
    "indexer_topk: 4-D key": index(index_key=zeros(2, 1, 5, 8)),
    "indexer_topk: head size": index(index_key=zeros(2, 5, 9)),
    "indexer_topk: weights": index(index_weights=zeros(2, 3, 5)),
    "indexer_topk: two devices": index(index_weights=zeros(2, 3, 4, device="meta")),
    "indexer_topk: activation": index(activation="gelu"),
    "indexer_topk: negative scale": index(scale=-1.0),
    "indexer_topk: window of 0": index(window_size=0),
    "indexer_topk: mask heads": index(attention_mask=zeros(2, 4, 3, 5, dtype=torch.bool)),
    "indexer_topk: mask length": index(attention_mask=zeros(2, 1, 3, 6, dtype=torch.bool)),
    "indexer_topk: causal ranges": index(is_causal=True, key_ranges=(RANGE, RANGE)),
    "attention: gather without a window": attend(backend="gather"),
    "sparse_attention: float": sparse(indices=zeros(2, 1, 3, 2)),
    "sparse_attention: 3-D": sparse(indices=RANGE[None]),
    "sparse_attention: heads": sparse(indices=RANGE[None, None].expand(1, 3, 1, 3)),
    "sparse_attention: queries": sparse(indices=RANGE[None, None].expand(1, 1, 2, 3)),
    "sparse_attention: two devices": sparse(indices=RANGE[None, None].to("meta")),
    "sparse_attention: value length": sparse(value=zeros(2, 2, 6, 8)),
    "sparse_attention: bias heads": sparse(attention_bias=zeros(2, 3, 1, 5)),
    "attention: unknown backend": attend(backend="flash"),
    "attention: window without bias": attend(window_size=2),
    "attention: 3-D query": attend(query=zeros(4, 3, 8)),
    "attention: head size": attend(query=zeros(2, 4, 3, 16)),
    "attention: value length": attend(value=zeros(2, 2, 6, 8)),
    "attention: heads": attend(query=zeros(2, 3, 3, 8)),
    "attention: bias heads": attend(attention_bias=zeros(2, 3, 1, 5)),
    "attention: float mask": attend(attention_mask=zeros(2, 5)),
    "attention: mask heads": attend(attention_mask=zeros(2, 3, 1, 5, dtype=torch.bool)),
}


def test_the_texts() -> None:
    lines = []
    for name, call in BAD_CALLS.items():
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        lines.append(f"{name}\n    {caught.type.__name__}: {caught.value}")
    expecttest.assert_expected_inline(
        "\n".join(lines),
        """\
bias of integers
    TypeError: attention_bias must have a floating-point dtype, got torch.int64
bias not 4-D
    ValueError: attention_bias must be 4-D ({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1}), got shape (2, 3, 8)
float mask
    TypeError: attention_mask must be bool (True = may be attended to) or integer 0/1, got torch.float32; convert an additive mask with `attention_mask == 0`
complex mask
    TypeError: attention_mask must be bool (True = may be attended to) or integer 0/1, got torch.complex64
3-D mask
    ValueError: attention_mask must be 2-D (B, S) or 4-D ({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1}), got shape (2, 3, 8)
mask of another length
    ValueError: attention_mask of shape (2, 5) must cover key_len=8 or query_len=3 positions, got 5
mask that cannot be padded
    ValueError: attention_mask of shape (2, 3) covers query_len=3 positions and cannot be padded to key_len=2: key_len must not be less than query_len
mask of another batch
    ValueError: attention_mask of shape (3, 8) contradicts batch_size=2: dimension 0 must be 2 or 1
4-D mask of another length
    ValueError: attention_mask of shape (2, 1, 3, 7) contradicts key_len=8: dimension 3 must be 8 or 1
heads that do not divide
    ValueError: shapes (2, 2, 3, 8) and (2, 3, 3, 8) of attention_bias and attention_mask do not broadcast: neither of the head counts 2 and 3 divides the other
batch_size against the bias
    ValueError: attention_bias of shape (2, 2, 3, 8) contradicts batch_size=3: dimension 0 must be 3 or 1
query_len against the bias
    ValueError: attention_bias of shape (2, 2, 3, 8) contradicts query_len=4: dimension 2 must be 4 or 1
key_len against the bias
    ValueError: attention_bias of shape (2, 2, 3, 8) contradicts key_len=9: dimension 3 must be 9 or 1
negative size
    ValueError: batch_size must be non-negative, got -1
two devices
    ValueError: attention_bias and attention_mask must be on the same device, got cpu and meta
window of 0
    ValueError: window_size must be at least 1, got 0
window of None
    ValueError: type 'topk' requires window_size, got None
block of 0
    ValueError: block_size must be at least 1, got 0
floor out of range
    ValueError: min_dtype must be a number that torch.float16 can represent (-65504 to 65504), got -100000
floor NaN
    ValueError: min_dtype must be a number that torch.float32 can represent, got nan
unknown type
    ValueError: unknown type 'tpok'; expected one of ('block_topk', 'ratio', 'relu', 'topk', 'topp')
unknown tie_break
    ValueError: unknown tie_break 'highest'; expected one of ('lowest', 'torch')
unknown option
    ValueError: unknown 'relu' option 'p'; expected one of ()
topk_mask: 2-D mask
    ValueError: attention_mask must be 4-D ({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1}), got shape (2, 8); create_mask also accepts (B, S) masks
topk_mask: no broadcast
    ValueError: shapes (2, 2, 3, 8) and (2, 1, 1, 5) of attention_bias and attention_mask do not broadcast: dimension 3 is 8 and 5
topk_mask: window of 0
    ValueError: window_size must be at least 1, got 0
dynamic_mask: bias of integers
    TypeError: attention_bias must have a floating-point dtype, got torch.int32
relu_mask: float mask
    TypeError: attention_mask must be bool (True = may be attended to) or integer 0/1, got torch.float32; convert an additive mask with `attention_mask == 0`
topk_indices: window of 0
    ValueError: window_size must be at least 1, got 0
block_smooth: float mask
    TypeError: mask must be bool (True = kept), got torch.float32
block_smooth: 2-D
    ValueError: mask must be 4-D ({B|1}, {H|1}, {Lq|1}, Lk), got shape (2, 8)
block_smooth: block of 0
    ValueError: block_size must be at least 1, got 0
block_smooth: no broadcast
    ValueError: shapes (2, 2, 3, 8) and (2, 2, 3, 5) of mask and attention_mask do not broadcast: dimension 3 is 8 and 5
topp: p of 0
    ValueError: p must be greater than 0 and at most 1, got 0.0
ratio: above 1
    ValueError: ratio must be greater than 0 and at most 1, got 1.5
block_topk: block of 0
    ValueError: key_block must be at least 1, got 0
block_topk: pool
    ValueError: unknown pool 'min'; expected one of ('max', 'mean')
block_topk: no window
    ValueError: type 'block_topk' requires window_size, got None
option of another type
    TypeError: option 'p' must be an int, float, bool or str, got list
select: bias of integers
    TypeError: attention_bias must have a floating-point dtype, got torch.int32
select: window of 0
    ValueError: window_size must be at least 1, got 0
select: sinks and local
    ValueError: sinks + local must be at most window_size=4, got 3 + 2
select: negative sinks
    ValueError: sinks must be non-negative, got -1
select: float mask
    TypeError: attention_mask must be bool (True = may be attended to) or integer 0/1, got torch.float32; convert an additive mask with `attention_mask == 0`
select: mask heads
    ValueError: shapes (2, 2, 3, 8) and (2, 3, 3, 8) of attention_bias and attention_mask do not broadcast: neither of the head counts 2 and 3 divides the other
select: query_len against the bias
    ValueError: attention_bias of shape (2, 2, 3, 8) contradicts query_len=5: dimension 2 must be 5 or 1
select: float key_lengths
    TypeError: key_lengths must be int32 or int64, got torch.float32
select: 2-D key_lengths
    ValueError: key_lengths must be 1-D (B,), got shape (2, 1)
select: key_lengths of another batch
    ValueError: key_lengths of shape (3,) contradicts batch_size=2: dimension 0 must be 2 or 1
select: two devices
    ValueError: attention_bias and key_lengths must be on the same device, got cpu and meta
select: floor NaN
    ValueError: min_dtype must be a number that torch.float32 can represent, got nan
select: one range
    ValueError: key_ranges must be a pair of tensors, got 1
select: a range of None
    TypeError: key_ranges[1] must be a torch.Tensor, got None
select: a tensor of ranges
    TypeError: key_ranges must be a pair of tensors, got a Tensor
select: float ranges
    TypeError: key_ranges[1] must be int32 or int64, got torch.float32
select: 1-D ranges
    ValueError: key_ranges[0] must be 2-D ({B|1}, {Lq|1}), got shape (3,)
select: ranges of another batch
    ValueError: key_ranges[0] of shape (3, 3) contradicts batch_size=2: dimension 0 must be 2 or 1
select: ranges of other queries
    ValueError: key_ranges[1] of shape (1, 2) contradicts query_len=3: dimension 1 must be 3 or 1
select: ranges on two devices
    ValueError: attention_bias and key_ranges[1] must be on the same device, got cpu and meta
select: causal ranges
    ValueError: key_ranges cannot be combined with is_causal: put both in the ranges
select: ranges and lengths
    ValueError: key_ranges cannot be combined with key_lengths: put both in the ranges
mask_mod: heads
    ValueError: num_heads must be a multiple of the 2 heads of the selection, got 3
to_block_mask: block of 0
    ValueError: BLOCK_SIZE of a query block must be at least 1, got 0
to_block_map: block of 0
    ValueError: block_size of a key block must be at least 1, got 0
to_block_map: three sizes
    ValueError: block_size must be an int or a pair of ints, got (4, 4, 4)
to_indices: fill
    ValueError: fill must fit in int32, got 2147483648
to_indices: multiple of 0
    ValueError: multiple_of must be at least 1, got 0
kept_indices: bounds
    ValueError: threshold and cutoff must have the same shape, got (2, 2, 3) and (1, 2, 8)
kept_mask: bounds
    ValueError: cutoff must be 3-D [B, H, Lq], got shape (2, 3)
kept_mask: rows
    ValueError: threshold must have query_len=5 rows, got shape (2, 2, 3)
kept_mask: float64 threshold
    TypeError: threshold must be torch.float32, got torch.float64
kept_mask: int64 cutoff
    TypeError: cutoff must be torch.int32, got torch.int64
kept_mask: rows of another batch
    ValueError: attention_bias of shape (2, 2, 3, 8) contradicts batch_size=4: dimension 0 must be 4 or 1
kept_mask: rows of fewer heads
    ValueError: the number of heads of attention_bias must divide 1, got 2 (shape (2, 2, 3, 8))
kept_mask: mask of another length
    ValueError: attention_mask of shape (2, 1, 1, 5) contradicts key_len=8: dimension 3 must be 8 or 1
kept_mask: mask heads
    ValueError: the number of heads of attention_mask must divide 2, got 3 (shape (2, 3, 3, 8))
kept_mask: mask on another device
    ValueError: attention_bias and attention_mask must be on the same device, got cpu and meta
kept_mask: key_lengths of another batch
    ValueError: key_lengths of shape (5,) contradicts batch_size=2: dimension 0 must be 2 or 1
kept_mask: one range
    ValueError: key_ranges must have a start and an end, got one of them
kept_mask: ranges of other queries
    ValueError: key_ranges[0] of shape (1, 2) contradicts query_len=3: dimension 1 must be 3 or 1
kept_mask: negative sinks
    ValueError: sinks must be non-negative, got -1
kept_mask: negative local
    ValueError: local must be non-negative, got -1
kept_mask: floor NaN
    ValueError: floor must be a number that torch.float32 can represent, got nan
kept_blocks: counts beyond 2^31
    ValueError: query_block * key_block must be below 2^31, because int32 holds the counts, got 65536 * 65536
block_lists: int64
    TypeError: counts must be int32, got torch.int64
block_lists: 3-D
    ValueError: counts must be 4-D [B, H, nq, nk], got shape (2, 3, 8)
block_lists: whole
    ValueError: whole must be at least 1, got 0
mask_from_indices: float
    TypeError: indices must be int32 or int64, got torch.float32
mask_from_indices: 2-D
    ValueError: indices must be 4-D ({B|1}, {H|1}, {Lq|1}, K) or 3-D without heads, got shape (1, 3)
mask_from_indices: 3-D and a 4-D mask
    ValueError: attention_mask must have 3 dimensions, as indices, got shape (2, 2, 3, 8)
mask_from_indices: out_of_range
    ValueError: unknown out_of_range 'drop'; expected one of ('error', 'ignore')
mask_from_indices: dtype of a bool mask
    ValueError: dtype=torch.float16 needs a fill or an additive mask: the result is bool
mask_from_indices: integer dtype
    TypeError: dtype must be a floating-point dtype, got torch.int64
topk_indices: 3-D bias, 4-D mask
    ValueError: attention_mask must have 3 dimensions, as attention_bias, got shape (2, 2, 3, 8)
packed_ranges: float
    TypeError: cu_seqlens_q must be int32 or int64, got torch.float32
packed_ranges: 2-D
    ValueError: cu_seqlens_k must be 1-D (n + 1,), got shape (1, 3)
packed_ranges: empty
    ValueError: cu_seqlens_q must be 1-D (n + 1,), got shape (0,)
packed_ranges: lengths
    ValueError: cu_seqlens_q and cu_seqlens_k must have the same length, got 3 and 2
packed_ranges: negative
    ValueError: total_q must be non-negative, got -3
packed_ranges: two devices
    ValueError: cu_seqlens_q and cu_seqlens_k must be on the same device, got cpu and meta
page_indices: float
    TypeError: page_table must be int32 or int64, got torch.float32
page_indices: 1-D table
    ValueError: indices must be [B, ...] and page_table [B|1, pages], got shapes (1, 3) and (3,)
page_indices: no dimension
    ValueError: indices must be [B, ...] and page_table [B|1, pages], got shapes () and (1, 3)
page_indices: another batch
    ValueError: page_table of shape (2, 3) contradicts batch_size=3: dimension 0 must be 3 or 1
page_indices: page of 0
    ValueError: page_size must be at least 1, got 0
page_indices: two devices
    ValueError: indices and page_table must be on the same device, got cpu and meta
mask_from_indices: past the end
    ValueError: indices must be below 8, the number of keys or blocks, got 8
mask_from_indices: block past the end
    ValueError: indices must be below 2, the number of keys or blocks, got 2
mask_from_indices: negative
    ValueError: key_len must be non-negative, got -1
mask_from_indices: block of 0
    ValueError: block_size must be at least 1, got 0
mask_from_indices: 2-D mask
    ValueError: attention_mask must be 4-D ({B|1}, {H|KVH|1}, {Lq|1}, {Lk|1}), got shape (2, 8)
mask_from_indices: mask length
    ValueError: shapes (2, 2, 3, 8) and (2, 2, 3, 5) of indices (as a mask) and attention_mask do not broadcast: dimension 3 is 8 and 5
indexer_topk: key dtype
    TypeError: index_query and index_key must have the same dtype, got torch.float32 and torch.float16
indexer_topk: integer weights
    TypeError: index_weights must have a floating-point dtype, got torch.int64
indexer_topk: 4-D key
    ValueError: index_query, index_key and index_weights must be [B, Lq, Hi, D], [B, Lk, D] and [B, Lq, Hi], got shapes ((2, 3, 4, 8), (2, 1, 5, 8), (2, 3, 4))
indexer_topk: head size
    ValueError: index_key must match the batch and head size of index_query, got shapes ((2, 3, 4, 8), (2, 5, 9), (2, 3, 4))
indexer_topk: weights
    ValueError: index_weights must have a weight per query and head, got shapes ((2, 3, 4, 8), (2, 5, 8), (2, 3, 5))
indexer_topk: two devices
    ValueError: index_query and index_weights must be on the same device, got cpu and meta
indexer_topk: activation
    ValueError: unknown activation 'gelu'; expected one of ('none', 'relu')
indexer_topk: negative scale
    ValueError: scale must be greater than 0, got -1.0
indexer_topk: window of 0
    ValueError: window_size must be at least 1, got 0
indexer_topk: mask heads
    ValueError: attention_mask must have one head, because all heads share the choice, got shape (2, 4, 3, 5)
indexer_topk: mask length
    ValueError: attention_mask of shape (2, 1, 3, 6) contradicts key_len=5: dimension 3 must be 5 or 1
indexer_topk: causal ranges
    ValueError: key_ranges cannot be combined with is_causal: put both in the ranges
attention: gather without a window
    ValueError: backend 'gather' requires window_size, got None
sparse_attention: float
    TypeError: indices must be int32 or int64, got torch.float32
sparse_attention: 3-D
    ValueError: indices must be 4-D ({B|1}, {H|KVH|1}, {Lq|1}, K), got shape (1, 1, 3)
sparse_attention: heads
    ValueError: the number of heads of indices must divide 4, got 3 (shape (1, 3, 1, 3))
sparse_attention: queries
    ValueError: dimension 2 of indices must be 3 or 1, got shape (1, 1, 2, 3)
sparse_attention: two devices
    ValueError: query and indices must be on the same device, got cpu and meta
sparse_attention: value length
    ValueError: value must match the batch, heads and length of key, got shapes ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 6, 8))
sparse_attention: bias heads
    ValueError: the number of heads of attention_bias must divide 4, got 3 (shape (2, 3, 1, 5))
attention: unknown backend
    ValueError: unknown backend 'flash'; expected one of ('eager', 'gather', 'sdpa')
attention: window without bias
    ValueError: window_size requires attention_bias, got None
attention: 3-D query
    ValueError: query, key and value must be 4-D [B, H, L, D], got shapes ((4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 8))
attention: head size
    ValueError: key must match the batch and head size of query, got shapes ((2, 4, 3, 16), (2, 2, 5, 8), (2, 2, 5, 8))
attention: value length
    ValueError: value must match the batch, heads and length of key, got shapes ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 6, 8))
attention: heads
    ValueError: the number of query heads must be divisible by the number of key heads, got 3 and 2
attention: bias heads
    ValueError: the number of heads of attention_bias must divide 4, got 3 (shape (2, 3, 1, 5))
attention: float mask
    TypeError: attention_mask must be bool (True = may be attended to) or integer 0/1, got torch.float32; convert an additive mask with `attention_mask == 0`
attention: mask heads
    ValueError: the number of heads of attention_mask must divide 4, got 3 (shape (2, 3, 1, 5))""",
    )


@pytest.mark.parametrize("name", BAD_CALLS)
def test_the_text_survives_compilation(name: str) -> None:
    call = BAD_CALLS[name]
    with pytest.raises((TypeError, ValueError)) as eager:
        call()
    with pytest.raises(Exception) as compiled:  # noqa: PT011  (what Dynamo makes of it varies)
        torch.compile(call, fullgraph=True, backend="eager")()
    # Dynamo quotes the original error by its repr.
    assert repr(str(eager.value))[1:-1] in str(compiled.value).replace("\\'", "'").replace(
        '\\"', '"'
    ) or str(eager.value) in str(compiled.value)


def test_maybe_asks_for_a_floating_bias_only_where_there_is_a_window() -> None:
    integers = torch.zeros(1, 1, 1, 8, dtype=torch.int64)
    assert dmask.maybe_create_mask(integers, None, 1, 1, 8, None) is None
    with pytest.raises(TypeError, match="attention_bias must have a floating-point dtype"):
        dmask.maybe_create_mask(integers, None, 1, 1, 8, 4)


def test_a_typo_in_an_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="block_sze"):
        create(block_sze=4)()


def test_nothing_is_done_before_a_call_is_checked() -> None:
    before = BIAS.clone()
    with pytest.raises(ValueError, match="unknown type"):
        create(type="tpok")()
    assert torch.equal(BIAS, before)
