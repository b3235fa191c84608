"""DeepSeek's lightning indexer: the op `indexer_topk`."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask import shapes, validation
from dmask.compat import known
from dmask.contracts.dispatch import Kernel
from dmask.contracts.select import check_selection, limits_4d
from dmask.contracts.spec import OpSpec, Plan
from dmask.kernels.reference.indexer import Kernels, indexer_topk
from dmask.kernels.reference.select import SelectionInputs
from dmask.validation import TensorMeta

ACTIVATIONS = ("none", "relu")

_index_scores = Kernel("indexer.index_scores", "triton")
_best_indices = Kernel("indexer.best_indices", "cpu", "triton")


def _plan(
    query: TensorMeta,
    key: TensorMeta,
    weights: TensorMeta,
    window_size: int,
    scale: float | None,
    activation: str,
    mask: TensorMeta | None,
    is_causal: bool,
    lengths: TensorMeta | None,
    sinks: int,
    local: int,
    min_dtype: float | None,
    starts: TensorMeta | None,
    ends: TensorMeta | None,
) -> Plan:
    batch, query_len, _, size = _check_tensors(query, key, weights)
    if activation not in ACTIVATIONS:
        raise validation.unknown("activation", activation, ACTIVATIONS)
    scale = size**-0.5 if scale is None else scale + 0.0
    if not scale > 0:
        raise ValueError(f"scale must be greater than 0, got {scale}")
    key_len, device = key.shape[1], query.device
    bias = TensorMeta((batch, 1, query_len, key_len), torch.float32, device)
    _check_mask_heads(mask)
    checked = check_selection(
        bias,
        window_size,
        mask,
        is_causal,
        query_len,
        lengths,
        sinks,
        local,
        min_dtype,
        starts,
        ends,
    )
    kernels = Kernels(
        _index_scores.choose(device, query.dtype), _best_indices.choose(device, bias.dtype)
    )

    def run(
        query: Tensor, key: Tensor, weights: Tensor, mask: Tensor | None, *limits: Tensor | None
    ) -> Tensor:
        allowed = None if mask is None else shapes.bool_mask_4d(mask, key_len)
        unread = query.new_empty((1, 1, 1, 1), dtype=torch.float32)
        length, ranges = limits_4d(*limits)
        positions = checked.positions
        inputs = SelectionInputs(unread, allowed, length, positions, checked.floor, ranges)
        relu = activation == "relu"
        return indexer_topk(query, key, weights, relu, scale, inputs, window_size, kernels)

    return Plan(TensorMeta((batch, query_len, window_size), torch.int32, device), run)


SPEC = OpSpec(
    "indexer_topk(Tensor index_query, Tensor index_key, Tensor index_weights, SymInt window_size, "
    'float? scale=None, str activation="relu", Tensor? attention_mask=None, bool is_causal=False, '
    "Tensor? key_lengths=None, SymInt sinks=0, SymInt local=0, float? min_dtype=None, "
    "Tensor? range_starts=None, Tensor? range_ends=None) -> Tensor",
    _plan,
    in_parts=True,
)


def _check_tensors(query: TensorMeta, key: TensorMeta, weights: TensorMeta) -> tuple[int, ...]:
    """Checks all tensors against each other and returns the shape of the queries."""
    named = {"index_query": query, "index_key": key, "index_weights": weights}
    for name, tensor in named.items():
        if not tensor.dtype.is_floating_point:
            raise TypeError(f"{name} must have a floating-point dtype, got {tensor.dtype}")
        validation.check_device(tensor, query, "index_query", name)
    if query.dtype != key.dtype:
        raise TypeError(
            f"index_query and index_key must have the same dtype, got {query.dtype} and {key.dtype}"
        )
    given = tuple(tuple(tensor.shape) for tensor in named.values())
    if tuple(map(len, given)) != (4, 3, 3):
        raise ValueError(
            "index_query, index_key and index_weights must be [B, Lq, Hi, D], [B, Lk, D] and "
            f"[B, Lq, Hi], got shapes {given}"
        )
    batch, _, _, size = query.shape
    if known(key.shape[0] != batch) or known(key.shape[2] != size):
        raise ValueError(
            f"index_key must match the batch and head size of index_query, got shapes {given}"
        )
    if any(known(a != b) for a, b in zip(weights.shape, query.shape, strict=False)):
        raise ValueError(f"index_weights must have a weight per query and head, got shapes {given}")
    return tuple(query.shape)


def _check_mask_heads(mask: TensorMeta | None) -> None:
    if mask is not None and len(mask.shape) == 4 and known(mask.shape[1] != 1):
        raise ValueError(
            "attention_mask must have one head, because all heads share the choice, "
            f"got shape {tuple(mask.shape)}"
        )
