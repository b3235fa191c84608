"""Compares the masks of a trained model with the inlined path, and draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import dmask

SHADES = " ░▒▓█"
ASCII_SHADES = " .:*#"


class Parity(NamedTuple):
    """The masks of one head, compared with those of the inlined path."""

    layer: int
    head: int
    masks: int
    entries: int
    differing: int
    tied_rows: int
    """The number of rows in which scores tie at the last rank, so that the tie rule decides."""


# ------------------------------------------------------------------ masks


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Returns the causal mask `[1, 1, length, length]`."""
    return torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()


def made_mask(scores: Tensor, window_size: int) -> Tensor:
    """Returns the mask that attention creates from scores `[B, KVH, 1, L]`: `[B, KVH, L, L]`."""
    batch, _, _, length = scores.shape
    causal = causal_mask(length, scores.device)
    return dmask.create_mask(scores, causal, batch, length, length, window_size)


def inlined_scores(scores: Tensor) -> Tensor:
    """Expands scores `[B, KVH, 1, L]` to `[B, KVH, L, L]`, with future keys at the floor."""
    causal = causal_mask(scores.shape[-1], scores.device)
    return scores.masked_fill(~causal, torch.finfo(scores.dtype).min)


def inlined_mask(scores: Tensor, window_size: int) -> Tensor:
    """Returns the same mask, created with the code that attention modules inline."""
    masked = inlined_scores(scores)
    values, indices = torch.topk(masked, window_size, dim=-1, sorted=False)
    kept = values != torch.finfo(scores.dtype).min
    return torch.zeros_like(masked, dtype=torch.bool).scatter_(-1, indices, kept)


def tied_rows(scores: Tensor, window_size: int) -> Tensor:
    """Flags rows in which too many keys reach the lowest score in the window, `[B, KVH, L]`."""
    masked = inlined_scores(scores)
    last = masked.topk(window_size, dim=-1).values[..., -1:]
    return ((masked >= last) & (masked > torch.finfo(scores.dtype).min)).sum(-1) > window_size


def compare(scores: Sequence[Tensor], window_size: int) -> list[Parity]:
    """Compares both masks of each layer and head, entry by entry.

    Args:
        scores: the scores of each layer, `[B, KVH, 1, L]`.
    """
    rows = []
    for layer, layer_scores in enumerate(scores):
        made = made_mask(layer_scores, window_size)
        differing = (made != inlined_mask(layer_scores, window_size)).sum((0, 2, 3)).tolist()
        tied = tied_rows(layer_scores, window_size).sum((0, 2)).tolist()
        batch, heads, length, _ = made.shape
        rows += [
            Parity(layer, head, batch, batch * length**2, differing[head], tied[head])
            for head in range(heads)
        ]
    return rows


def table(rows: Sequence[Parity]) -> str:
    """Formats a header and one line per head."""
    titles = ("layer", "KV head", "masks", "entries", "differing", "tied rows")
    lines = [titles, *(tuple(map(str, row)) for row in rows)]
    return "\n".join("".join(f"{cell:>12}" for cell in line) for line in lines)


# ------------------------------------------------------------------ pictures


def draw(mask: Tensor, columns: int = 64, shades: str = SHADES) -> str:
    """Draws a mask `[Lq, Lk]` with characters: queries downwards, keys to the right.

    A character is about twice as high as wide and covers several entries. It is blank if none is
    kept, and the last shade if all are kept.

    >>> print(draw(torch.ones(4, 4, dtype=torch.bool).tril(), shades=ASCII_SHADES))
    #:
    ###:
    """
    columns = min(columns, mask.shape[1])
    rows = min(max(columns // 2, 1), mask.shape[0])
    density = F.adaptive_avg_pool2d(mask.cpu().float()[None], (rows, columns))[0]
    # Round up, so that a single kept key is visible.
    steps = (density * (len(shades) - 1)).ceil().int().tolist()
    return "\n".join("".join(shades[step] for step in line).rstrip() for line in steps)


def shades_for(encoding: str | None) -> str:
    """Returns block characters if the encoding has them, ASCII otherwise."""
    try:
        SHADES.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII_SHADES
    return SHADES


def save_picture(masks: Sequence[Tensor], folder: Path) -> Path | None:
    """Writes the masks of all layers, each `[KVH, L, L]`, as a PNG.

    Returns:
        The path of the file, or `None` if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    heads = masks[0].shape[0]
    figure = Figure(figsize=(4 * heads, 4 * len(masks)), layout="constrained")
    axes = figure.subplots(len(masks), heads, squeeze=False, sharex=True, sharey=True)
    for layer, layer_masks in enumerate(masks):
        for head, mask in enumerate(layer_masks):
            ax = axes[layer][head]
            ax.imshow(mask.cpu().numpy(), cmap="Greys", interpolation="nearest")
            ax.set(title=f"layer {layer}, KV head {head}", xlabel="key", ylabel="query")
    path = folder / "masks.png"
    figure.savefig(path, dpi=150)
    return path


def readable(text: bytes) -> str:
    """Escapes all bytes except printable ASCII and line feeds, for any terminal."""
    return "".join(chr(b) if 32 <= b < 127 or b == 10 else f"\\x{b:02x}" for b in text)
