"""A byte-level language model whose queries attend to the keys that a dynamic mask keeps.

A small version of the attention in Hugging Face's Doge. The values determine the scores, one per
key and KV head. Each query keeps the `window_size` past keys with the highest scores. The scores
are added to the logits, which gives them gradients.

Shape legend: `B` batch, `L` length, `H` query heads, `KVH` key/value heads, `D` head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import dmask

VOCABULARY = 256


class DynamicMaskSelfAttention(nn.Module):
    """Grouped-query attention from each byte to at most `window_size` bytes up to that byte."""

    def __init__(self, width: int, heads: int, kv_heads: int, window_size: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.window_size = window_size
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(width, kv_heads * self.head_dim, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.dt = nn.Linear(kv_heads * self.head_dim, kv_heads)
        # Doge starts from zero, but then all scores tie and `dt` gets no gradient.
        self.A = nn.Parameter(torch.ones(kv_heads))

    def forward(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[B, L, width]` to the same shape; also returns the scores `[B, KVH, 1, L]`."""
        value = self.value(x)
        scores = self.scores(value)
        attended = dmask.dynamic_mask_attention(
            rotate(self.split_heads(self.query(x)), rotation),
            rotate(self.split_heads(self.key(x)), rotation),
            self.split_heads(value),
            scores,
            window_size=self.window_size,
            is_causal=True,
        )
        return self.output(attended.transpose(1, 2).flatten(2)), scores

    def scores(self, value: Tensor) -> Tensor:
        """Scores the keys by their values: maps `[B, L, KVH * D]` to `[B, KVH, 1, L]`."""
        # Contiguous, because if the input of softplus and its gradient differ in layout, the
        # strides of its backward differ from those that PyTorch (2.9 to 2.15) traces.
        dt = self.dt(value).transpose(1, 2).contiguous()
        return (self.A[:, None] * F.softplus(dt)).unsqueeze(2)

    def split_heads(self, x: Tensor) -> Tensor:
        """Maps `[B, L, heads * D]` to `[B, heads, L, D]`."""
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, kv_heads: int, window_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = DynamicMaskSelfAttention(width, heads, kv_heads, window_size)
        self.mlp_norm = nn.RMSNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[B, L, width]` to the same shape; also returns the scores of its attention."""
        attended, scores = self.attention(self.attention_norm(x), rotation)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), scores


class LanguageModel(nn.Module):
    """Predicts the next byte at each position of a text of at most `context` bytes."""

    rotation: Tensor

    def __init__(
        self,
        context: int,
        window_size: int,
        *,
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        kv_heads: int = 2,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, kv_heads, window_size) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, VOCABULARY)
        self.register_buffer("rotation", rotary_embedding(context, width // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps bytes `[B, L]`, int64, to logits `[B, L, VOCABULARY]`."""
        logits: Tensor = self.head(self.norm(self.run_blocks(tokens)[0]))
        return logits

    @torch.no_grad()
    def scores(self, tokens: Tensor) -> list[Tensor]:
        """Returns the scores of each layer for bytes `[B, L]`, each `[B, KVH, 1, L]`."""
        return self.run_blocks(tokens)[1]

    def run_blocks(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the output of the last block, `[B, L, width]`, and the scores of every block."""
        x = self.embedding(tokens)
        all_scores = []
        for block in self.blocks:
            x, scores = block(x, self.rotation)
            all_scores.append(scores)
        return x, all_scores


def rotary_embedding(context: int, head_dim: int) -> Tensor:
    """Returns the cosines and sines that rotate the pairs of a head, `[2, context, D / 2]`."""
    pairs = torch.arange(head_dim // 2)
    angles = torch.arange(context)[:, None] * 10_000.0 ** (-2 * pairs / head_dim)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotates `[B, heads, L, D]` by position, so that query times key depends on their distance."""
    cos, sin = rotation[:, : x.shape[2]]
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
