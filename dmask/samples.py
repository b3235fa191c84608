"""Sample calls of every op, with small inputs.

The audit builds its op cases from these samples. `tests/ops/samples.py` adds more shapes, layouts
and dtypes. Every op needs an entry in `SAMPLES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

BATCH, HEADS, QUERY_LEN, KEY_LEN = SHAPE = 2, 4, 6, 24
WINDOW_SIZE = 16


class Sample(NamedTuple):
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = MappingProxyType({})


Samples = Mapping[str, Callable[[], Sample]]
"""The samples of an op by name. Each call creates new tensors."""


def scores(*shape: int) -> Tensor:
    """Returns distinct scores around zero."""
    return torch.linspace(-1.0, 1.0, torch.Size(shape).numel()).view(shape)


def mask(*shape: int) -> Tensor:
    """Returns a mask that allows two out of three keys."""
    return (torch.arange(torch.Size(shape).numel()) % 3 != 0).view(shape)


def mask_4d() -> Tensor:
    return mask(BATCH, 1, QUERY_LEN, KEY_LEN)


def _without_and_with_mask(*args: Any, **options: Any) -> Samples:
    """Returns the samples of an op that takes a bias and a mask, followed by `args`."""
    return {
        "no mask": lambda: Sample((scores(*SHAPE), None, *args), options),
        "mask": lambda: Sample((scores(*SHAPE), mask_4d(), *args), options),
    }


def _indices(dtype: torch.dtype) -> Tensor:
    """Returns indices between -1 and 5."""
    count = BATCH * HEADS * QUERY_LEN * 4
    return (torch.arange(count, dtype=dtype) % 7 - 1).view(BATCH, HEADS, QUERY_LEN, 4)


def _counts() -> Tensor:
    """Returns counts of kept keys in blocks: 0, 16 and 32."""
    count = torch.arange(BATCH * HEADS * QUERY_LEN * 3, dtype=torch.int32) % 3 * 16
    return count.view(BATCH, HEADS, QUERY_LEN, 3)


def _select(*restrictions: Any) -> Sample:
    return Sample((scores(*SHAPE), WINDOW_SIZE, *restrictions))


def _restricted() -> Sample:
    """Selects under a mask, causality, `query_len`, `key_lengths`, `sinks` and `local`."""
    return _select(mask_4d(), True, QUERY_LEN, torch.tensor([KEY_LEN, 20]), 2, 3)


def _in_ranges() -> Sample:
    """Selects in row ranges: those of two packed sequences."""
    start = torch.tensor([[0, 0, 0, 9, 9, 9]], dtype=torch.int32)
    end = torch.tensor([[7, 8, 9, 22, 23, 24]], dtype=torch.int32)
    return _select(None, False, QUERY_LEN, None, 2, 3, None, start, end)


_SELECT: Samples = {
    "scores alone": _select,
    "every restriction": _restricted,
    "ranges": _in_ranges,
}


def _of_a_selection(*args: Any) -> Samples:
    """Returns the samples of an op that takes a selection, followed by `args`."""
    return {
        name: lambda make=make: Sample((*_selected(*make().args), *args))  # type: ignore[misc]
        for name, make in _SELECT.items()
    }


def _selected(
    bias: Tensor,
    window_size: int,
    mask: Tensor | None = None,
    is_causal: bool = False,
    query_len: int = QUERY_LEN,
    lengths: Tensor | None = None,
    sinks: int = 0,
    local: int = 0,
    min_dtype: float | None = None,
    *ranges: Tensor,
) -> tuple[Any, ...]:
    """Returns the leading arguments of the ops that take a selection."""
    threshold, cutoff = torch.ops.dmask.select(
        bias, window_size, mask, is_causal, query_len, lengths, sinks, local, min_dtype, *ranges
    )
    tensors = bias, threshold, cutoff, mask, lengths, *(ranges or (None, None))
    floor = torch.finfo(bias.dtype).min
    return *tensors, query_len, is_causal, sinks, local, floor


def _index(*restrictions: Any) -> Sample:
    """Scores keys as an indexer of three heads does, with integers, whose sums are exact."""
    query = torch.arange(BATCH * QUERY_LEN * 3 * 8).view(BATCH, QUERY_LEN, 3, 8) % 7 - 3.0
    key = torch.arange(BATCH * KEY_LEN * 8).view(BATCH, KEY_LEN, 8) % 5 - 2.0
    weights = torch.arange(BATCH * QUERY_LEN * 3).view(BATCH, QUERY_LEN, 3) % 4 - 1.0
    return Sample((query, key, weights, WINDOW_SIZE, 1.0, *restrictions))


def _restrictions(select: Sample) -> tuple[Any, ...]:
    """Returns the restrictions of a call of `select`, without its number of queries."""
    mask, is_causal, _, *others = select.args[2:]
    return mask, is_causal, *others


SAMPLES: Mapping[str, Samples] = {
    "as_bool": {
        "2-D": lambda: Sample((mask(BATCH, KEY_LEN).long(),)),
        "4-D": lambda: Sample((mask_4d().int(),)),
    },
    "block_lists": {
        "some full": lambda: Sample((_counts(), 32)),
        "large blocks": lambda: Sample((_counts(), 128 * 128)),
    },
    "block_smooth": {
        "no mask": lambda: Sample((scores(*SHAPE) > 0, 4)),
        "mask": lambda: Sample((scores(*SHAPE) > 0, 4, mask_4d())),
    },
    "block_topk_mask": _without_and_with_mask(WINDOW_SIZE, key_block=4),
    "create_mask": _without_and_with_mask(BATCH, QUERY_LEN, KEY_LEN, WINDOW_SIZE),
    "indexer_topk": {
        "scores alone": _index,
        "every restriction": lambda: _index("relu", *_restrictions(_restricted())),
        "ranges": lambda: _index("none", *_restrictions(_in_ranges())),
    },
    "kept_blocks": _of_a_selection(4, 8),
    "kept_indices": _of_a_selection(WINDOW_SIZE),
    "kept_mask": _of_a_selection(),
    "mask_from_indices": {
        "keys": lambda: Sample((_indices(torch.int32), KEY_LEN)),
        "blocks": lambda: Sample((_indices(torch.int64), KEY_LEN, 4)),
    },
    "ratio_mask": _without_and_with_mask(ratio=0.5),
    "relu_mask": _without_and_with_mask(),
    "select": _SELECT,
    "topk_indices": _without_and_with_mask(WINDOW_SIZE),
    "topk_mask": _without_and_with_mask(WINDOW_SIZE),
    "topp_mask": _without_and_with_mask(p=0.5),
}
