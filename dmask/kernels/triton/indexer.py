"""DeepSeek's lightning indexer on CUDA."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmask.kernels.reference import indexer as reference
from dmask.kernels.reference.select import SelectionInputs
from dmask.kernels.triton.indices import kept_indices, topk_indices
from dmask.kernels.triton.instructions import INTERPRETED
from dmask.kernels.triton.launches import launch
from dmask.kernels.triton.layout import power_of_2
from dmask.kernels.triton.rows import as_float
from dmask.kernels.triton.select import select

ROWS, KEYS = 128, 128
"""Rows (the heads of queries) and keys that a program multiplies at once."""
TILES = 8
"""How many tiles of keys a program multiplies with the same rows, one after another."""
MAX_HEADS, MAX_SIZE = 128, 256
"""The most heads and the longest queries whose tiles fit in shared memory."""


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
    TILES: tl.constexpr,
):
    """Writes the scores of `TILES * N` keys for `Q` queries with `H` heads, a power of two.

    The products of all heads stay in registers.
    """
    high, wide = tl.cdiv(queries, Q), tl.cdiv(keys, N * TILES)
    program = tl.program_id(0).to(tl.int64)
    # Programs that run together share keys.
    tile, column, batch = program % high, program // high % wide, program // (high * wide)
    row, dim = tl.arange(0, Q * H), tl.arange(0, D)
    place, head = tile * Q + row // H, row % H
    inside = (place < queries) & (head < heads)
    query += batch * query_b + (place * query_q + head * query_h)[:, None] + dim[None, :] * query_d
    left = tl.load(query, mask=inside[:, None] & (dim < size)[None, :], other=0.0)
    weights += batch * weight_b + place * weight_q + head * weight_h
    weight = tl.load(weights, mask=inside, other=0.0)[:, None]
    place = tile * Q + tl.arange(0, Q)
    out += (batch * queries + place)[:, None] * keys
    key += batch * key_b + dim[:, None] * key_d
    for start in range(0, N * TILES, N):
        index = column * (N * TILES) + start + tl.arange(0, N)
        seen = (index < keys)[None, :]
        right = tl.load(
            key + (index * key_k)[None, :], mask=seen & (dim < size)[:, None], other=0.0
        )
        if INTERPRETED:  # noqa: SIM108 (whose products of bfloat16 are wrong)
            products = tl.dot(as_float(left), as_float(right))
        else:
            products = tl.dot(left, right)
        if RELU:
            products = tl.where(products < 0, 0.0, products)  # NaN stays
        # A missing head adds nothing, even if a key is infinite.
        products = tl.where(inside[:, None], products * weight, 0.0)
        scores = tl.sum(tl.reshape(products, (Q, H, N)), 1)
        tl.store(out + index[None, :], scores, mask=(place < queries)[:, None] & seen)


def index_scores(query: Tensor, key: Tensor, weights: Tensor, relu: bool) -> Tensor:
    """Same as `reference.indexer.index_scores`, up to rounding."""
    batch, queries, heads, size = query.shape
    keys = key.shape[1]
    # Float32 needs many instructions, which cuBLAS does better.
    if query.dtype.itemsize != 2 or heads > MAX_HEADS or size > MAX_SIZE:
        return reference.index_scores(query, key, weights, relu)
    out = torch.empty((batch, queries, keys), dtype=torch.float32, device=query.device)
    if not (out.numel() and heads and size):
        return out.zero_()
    high = power_of_2(heads)
    each = max(1, ROWS // high)
    launch(
        "indexer_topk",
        score_keys,
        (batch * -(-queries // each) * -(-keys // (KEYS * TILES)),),
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
        D=max(16, power_of_2(size)),
        N=KEYS,
        TILES=TILES,
        num_warps=8,
        num_stages=2,
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
