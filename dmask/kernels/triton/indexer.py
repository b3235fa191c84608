"""DeepSeek's lightning indexer on CUDA."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton.indices import kept_indices, topk_indices
from dmask.kernels.triton.instructions import INTERPRETED
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import power_of_2
from dmask.kernels.triton.rows import as_float
from dmask.kernels.triton.select import select

ROWS, KEYS, SIZE = 128, 128, 128
"""Rows (a query's heads) and keys per program, and how many of their numbers it multiplies at once.
"""


@triton.jit(do_not_specialize=["queries", "keys"])
def score_keys(
    query,
    key,
    weights,
    out,
    queries,
    keys,
    heads,
    size,
    query_b,
    query_q,
    query_h,
    query_d,
    key_b,
    key_k,
    key_d,
    weight_b,
    weight_q,
    weight_h,
    RELU: tl.constexpr,
    Q: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
):
    """Writes the scores of `N` keys for `Q` queries, given `H` heads, a power of two.

    The products of all heads stay in registers.
    """
    tiles, columns = tl.cdiv(queries, Q), tl.cdiv(keys, N)
    program = tl.program_id(0).to(tl.int64)
    # Programs that run together share keys.
    tile, column, batch = program % tiles, program // tiles % columns, program // (tiles * columns)
    row = tl.arange(0, Q * H)
    place, head = tile * Q + row // H, row % H
    inside = (place < queries) & (head < heads)
    index = column * N + tl.arange(0, N)
    dim = tl.arange(0, D)
    query += batch * query_b + (place * query_q + head * query_h)[:, None] + dim[None, :] * query_d
    key += batch * key_b + (index * key_k)[None, :] + dim[:, None] * key_d
    products = tl.zeros((Q * H, N), tl.float32)
    for start in range(0, size, D):
        some = dim + start < size
        left = tl.load(query, mask=inside[:, None] & some[None, :], other=0.0)
        right = tl.load(key, mask=(index < keys)[None, :] & some[:, None], other=0.0)
        if INTERPRETED:  # whose products of bfloat16 are wrong
            left, right = as_float(left), as_float(right)
        # Not TF32: products of float32 are exact to float32.
        products = tl.dot(left, right, products, input_precision="ieee")
        query += D * query_d
        key += D * key_d
    if RELU:
        products = tl.where(products < 0, 0.0, products)  # NaN stays
    weights += batch * weight_b + place * weight_q + head * weight_h
    weight = tl.load(weights, mask=inside, other=0.0)
    # A missing head multiplies zeros, so it adds nothing.
    scores = tl.sum(tl.reshape(products * weight[:, None], (Q, H, N)), 1)
    place = tile * Q + tl.arange(0, Q)
    where = (batch * queries + place)[:, None] * keys + index[None, :]
    tl.store(out + where, scores, mask=(place < queries)[:, None] & (index < keys)[None, :])


def index_scores(query: Tensor, key: Tensor, weights: Tensor, relu: bool) -> Tensor:
    """Same as `reference.indexer.index_scores`, up to rounding."""
    batch, queries, heads, size = query.shape
    keys = key.shape[1]
    out = torch.empty((batch, queries, keys), dtype=torch.float32, device=query.device)
    if not (out.numel() and heads and size):
        return out.zero_()
    high = power_of_2(heads)
    each = max(1, ROWS // high)
    launch(
        "indexer_topk",
        score_keys,
        (batch * -(-queries // each) * -(-keys // KEYS),),
        (batch, queries, heads, keys),
        query,
        key,
        weights,
        out,
        queries,
        keys,
        heads,
        size,
        *query.stride(),
        *key.stride(),
        *weights.stride(),
        RELU=relu,
        Q=each,
        H=high,
        D=min(SIZE, max(16, power_of_2(size))),
        N=KEYS,
        num_warps=8,
    )
    return out


def best_indices(inputs: SelectionInputs, shape: tuple[int, int, int], window_size: int) -> Tensor:
    """Same as `reference.indexer.best_indices`."""
    if inputs.positions.sinks or inputs.positions.local:
        return kept_indices(inputs, *select(inputs, shape, window_size), window_size)
    device = inputs.bias.device
    query = torch.arange(shape[2], device=device)[:, None]
    key = torch.arange(inputs.positions.key_len, device=device)
    permitted, _ = inputs.restrictions(query, key)
    bias = inputs.bias if permitted is None else inputs.bias.masked_fill(~permitted, -math.inf)
    return topk_indices(bias, None, window_size, inputs.floor)
