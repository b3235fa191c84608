"""Shared code of the three equivalence suites: the matrix of cases, both paths, and the table.

The old path is the code that integrations contain: a 4-D mask, `masked_fill`, `torch.topk`,
`scatter`, then attention. The new path is `dmask.dynamic_mask_attention`, which creates its mask
with one call to `maybe_create_mask`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

import dmask
from tests.support.inlined import inlined_path

BACKENDS = "eager", "sdpa"
"""The backends that the old path has. Both paths then give the same bits."""
BATCH, KEY_HEADS, QUERIES, HEAD_DIM = 2, 2, 6, 8
WINDOW = 9
KEYS = {"shorter than the window": 8, "longer, with a cache": 24, "longer, no cache": QUERIES * 3}


@dataclass(frozen=True)
class Case:
    """One point of the matrix."""

    dtype: torch.dtype
    causal: bool
    groups: int
    mask: str
    bias: str
    prompt: str
    scores: str
    backend: str

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def matrix(quick: bool) -> Iterator[Case]:
    """Yields every combination, or in quick mode every 211th, which still covers all values."""
    axes = (
        (torch.float32, torch.float16, torch.bfloat16),
        (False, True),
        (1, 4),
        ("none", "left padding", "right padding", "new queries", "4-D"),
        tuple(
            "x".join(dims)
            for dims in itertools.product("B1", ("H", "KVH", "1"), ("Lq", "1"), ("Lk", "1"))
        ),
        tuple(KEYS),
        ("random", "tied"),
        BACKENDS,
    )
    cases = (Case(*values) for values in itertools.product(*axes))
    return itertools.islice(cases, 0, None, 211 if quick else 1)


@dataclass(frozen=True)
class Inputs:
    """The tensors of a case. Query, key, value and bias require grad."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor
    mask: Tensor | None

    @property
    def differentiable(self) -> tuple[Tensor, ...]:
        return self.query, self.key, self.value, self.bias


def make_inputs(case: Case, device: str) -> Inputs:
    """Returns random tensors for a case, the same in every run."""
    generator = torch.Generator().manual_seed(195)
    keys = KEYS[case.prompt]
    queries = keys if case.prompt == "longer, no cache" else QUERIES
    heads = KEY_HEADS * case.groups
    sizes = {"B": BATCH, "H": heads, "KVH": KEY_HEADS, "Lq": queries, "Lk": keys, "1": 1}

    def tensor(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator)
        return values.to(device, case.dtype).requires_grad_()

    query = tensor(BATCH, heads, queries, HEAD_DIM)
    key, value = (tensor(BATCH, KEY_HEADS, keys, HEAD_DIM) for _ in range(2))
    bias = tensor(*(sizes[dim] for dim in case.bias.split("x")))
    if case.scores == "tied":
        bias = bias.detach().relu().mul(2).round().requires_grad_()
    mask = _mask(case.mask, queries, keys, generator)
    return Inputs(query, key, value, bias, None if mask is None else mask.to(device))


def _mask(kind: str, queries: int, keys: int, generator: torch.Generator) -> Tensor | None:
    lengths = torch.tensor([[keys], [keys // 2]])  # the lengths of the two sequences in the batch
    positions = torch.arange(keys)
    if kind == "right padding":
        return positions < lengths
    if kind == "left padding":
        return positions >= keys - lengths
    if kind == "new queries":
        return torch.arange(queries) >= torch.tensor([[0], [queries // 2]])
    if kind == "4-D":
        return torch.rand(BATCH, 1, queries, keys, generator=generator) > 0.3
    return None


def inlined_mask(case: Case, inputs: Inputs) -> Tensor | None:
    """Returns the mask of the old path, in the broadcast shape of bias and mask."""
    queries, keys = inputs.query.shape[2], inputs.key.shape[2]
    allowed = inputs.mask
    if allowed is not None and allowed.dim() == 2:
        cached = torch.ones(BATCH, keys - allowed.shape[1], dtype=torch.bool, device=allowed.device)
        allowed = torch.cat([cached, allowed], dim=1)[:, None, None, :]
    if case.causal:
        causal = torch.ones(queries, keys, dtype=torch.bool, device=inputs.query.device)
        causal = causal.tril(keys - queries)[None, None]
        allowed = causal if allowed is None else allowed & causal
    if keys <= WINDOW:
        return allowed
    bias = inputs.bias.detach().expand(*inputs.bias.shape[:3], keys)
    if allowed is not None:
        bias, allowed = torch.broadcast_tensors(bias, allowed)
    return inlined_path(bias, allowed, WINDOW)


def all_heads(tensor: Tensor, heads: int) -> Tensor:
    return (
        tensor
        if tensor.shape[1] in (1, heads)
        else tensor.repeat_interleave(heads // tensor.shape[1], 1)
    )


def old_attention(case: Case, inputs: Inputs) -> Tensor:
    """Computes attention with the inlined mask."""
    query, key, value, bias = inputs.differentiable
    mask = inlined_mask(case, inputs)
    bias, empty = all_heads(bias, query.shape[1]), None
    if mask is not None:
        mask = all_heads(mask, query.shape[1])
        empty = ~mask.any(-1, keepdim=True)
        bias = torch.where(mask | empty, bias, -torch.inf)
    if case.backend == "sdpa":
        bias = bias.expand(*bias.shape[:3], key.shape[2]).contiguous()
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, enable_gqa=case.groups != 1
        )
    else:
        key, value = (t.repeat_interleave(case.groups, dim=1) for t in (key, value))
        logits = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5 + bias
        output = logits.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    return output if empty is None else output.masked_fill(empty, 0.0)


def new_attention(case: Case, inputs: Inputs) -> Tensor:
    """Computes attention with a mask from `maybe_create_mask`."""
    return dmask.dynamic_mask_attention(
        inputs.query,
        inputs.key,
        inputs.value,
        inputs.bias,
        inputs.mask,
        window_size=WINDOW,
        is_causal=case.causal,
        backend=case.backend,
    )


def run(
    description: str, differences: Callable[[Case, Inputs], list[str]], argv: list[str] | None
) -> int:
    """Runs a suite over the matrix and prints its table. Returns 1 if any case differs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu", help="the device to compare on (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="compare a sample of the matrix")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are tiny, so more threads would only wait
    total: Counter[tuple[str, Any]] = Counter()
    wrong: Counter[tuple[str, Any]] = Counter()
    failures = []
    for case in matrix(options.quick):
        found = differences(case, make_inputs(case, options.device))
        failures += [f"{case}: {what}" for what in found]
        for field in fields(case):
            total[field.name, getattr(case, field.name)] += 1
            wrong[field.name, getattr(case, field.name)] += bool(found)
    print(f"{description}\n\n{'axis':<9} {'value':<26} {'cases':>6} {'differ':>7}")
    for axis, value in sorted(total, key=str):
        print(f"{axis:<9} {value!s:<26} {total[axis, value]:>6} {wrong[axis, value]:>7}")
    cases = sum(count for (axis, _), count in total.items() if axis == "dtype")
    print(f"\n{cases} cases on {options.device}, {len(failures)} differences")
    print("\n".join(failures[:20]), file=sys.stderr)
    return 1 if failures else 0
