"""Does sparsity pay on a GPU? `python -m benchmarks --device cuda --only sparse`.

Decoding: the selection and the attention to what it keeps, together in one CUDA graph, against
attention to all keys. The indexer: against its matrix products and its selection alone. Times are
in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import dmask
from benchmarks.cuda import in_a_graph


class Decode(NamedTuple):
    """A decode step, and the share of the time of dense attention that it may take."""

    batch: int
    keys: int
    at_most: float
    heads: int = 32
    key_heads: int = 8
    head_dim: int = 128
    window_size: int = 2048

    @property
    def name(self) -> str:
        return f"decode, batch {self.batch}, {self.keys} keys"


class Index(NamedTuple):
    """A call of the indexer."""

    queries: int
    keys: int
    heads: int = 64
    head_dim: int = 128
    window_size: int = 2048

    @property
    def name(self) -> str:
        return f"indexer, {self.queries} x {self.keys}"


DECODE = (
    Decode(1, 32768, 0.85),
    Decode(8, 32768, 0.55),
    Decode(1, 131072, 0.3),
    Decode(8, 131072, 0.2),
)
INDEX = (Index(4096, 131072),)
CHUNK = 32
"""Queries whose products are made at once for the time of matrix products alone."""

Timer = Callable[[Callable[[], Any]], float]


def measure(
    device: str = "cuda", timer: Timer = in_a_graph
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and figures of each line of the table."""
    for case in DECODE:
        yield case.name, decode(case, device, timer)
    for call in INDEX:
        yield call.name, index(call, device, timer)


def decode(case: Decode, device: str, timer: Timer) -> dict[str, Any]:
    generator = torch.Generator(device).manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).bfloat16()

    query = tensor(case.batch, case.heads, 1, case.head_dim)
    shape = case.batch, case.key_heads, case.keys, case.head_dim
    key, value, bias = tensor(*shape), tensor(*shape), tensor(*shape[:2], 1, case.keys)

    def select() -> Tensor:
        return dmask.topk_indices(bias, None, case.window_size)

    def sparse() -> Tensor:
        return dmask.sparse_attention(query, key, value, select())

    indices = select()
    figures: dict[str, Any] = {
        "dense": timer(lambda: scaled_dot_product_attention(query, key, value, enable_gqa=True)),
        "selection": timer(select),
        "attention": timer(lambda: dmask.sparse_attention(query, key, value, indices)),
        "both": timer(sparse),
        "at most": case.at_most,
    }
    figures["of dense"] = figures["both"] / figures["dense"]
    mask = dmask.mask_from_indices(indices, case.keys)
    mask = mask.repeat_interleave(case.heads // case.key_heads, dim=1)
    wanted = scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    figures["difference"] = float((sparse() - wanted).abs().max())
    return figures


def index(case: Index, device: str, timer: Timer) -> dict[str, Any]:
    generator = torch.Generator(device).manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).bfloat16()

    query, key = (
        tensor(1, case.queries, case.heads, case.head_dim),
        tensor(1, case.keys, case.head_dim),
    )
    weights = tensor(1, case.queries, case.heads)
    some = query[0, :CHUNK].flatten(0, 1)
    products = timer(lambda: some @ key[0].T) * case.queries / min(CHUNK, case.queries)
    # Some rows at a time, as the indexer has them.
    scores = torch.randn(1, 1, min(CHUNK, case.queries), case.keys, device=device)
    selection = timer(lambda: dmask.topk_indices(scores, None, case.window_size))
    selection *= case.queries / scores.shape[2]
    figures: dict[str, Any] = {"products": products, "selection": selection}

    def run() -> Tensor:
        return dmask.indexer_topk(query, key, weights, case.window_size)

    figures["both"] = timer(run)
    figures["of both alone"] = figures["both"] / (products + selection)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        figures["MiB"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return figures


def line(name: str, figures: dict[str, Any]) -> str:
    """Returns a line of the printed table."""
    return f"{name:<34} " + "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
