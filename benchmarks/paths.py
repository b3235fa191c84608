"""Functions that create a top-k mask: dmask, other libraries, and a lower bound for the time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

import dmask

Make = Callable[[Tensor, Tensor | None, int], Tensor]


def create(bias: Tensor, mask: Tensor | None, window_size: int, tie_break: str = "torch") -> Tensor:
    batch, _, queries, keys = bias.shape
    return dmask.create_mask(bias, mask, batch, queries, keys, window_size, tie_break=tie_break)


def compare_only(bias: Tensor, mask: Tensor | None, window_size: int) -> Tensor:
    """Makes one elementwise pass over the scores, a lower bound for the time of any mask."""
    return bias >= 0.5


def numpy_argpartition(bias: Tensor, mask: Tensor | None, window_size: int) -> Tensor:
    """Creates the mask with NumPy."""
    scores = bias.numpy()
    best = np.argpartition(scores, -window_size, axis=-1)[..., -window_size:]
    kept = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(kept, best, True, axis=-1)
    return torch.from_numpy(kept)


def jax_top_k() -> Make | None:
    """Returns a function that creates the mask with JAX, or `None` if JAX is not installed."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None

    @partial(jax.jit, static_argnums=1)
    def top_k(scores, window_size):  # type: ignore[no-untyped-def]
        _, best = jax.lax.top_k(scores, window_size)
        return jnp.put_along_axis(
            jnp.zeros(scores.shape, dtype=bool), best, True, axis=-1, inplace=False
        )

    def make(bias: Tensor, mask: Tensor | None, window_size: int) -> Tensor:
        scores = jax.dlpack.from_dlpack(bias)
        return torch.from_dlpack(top_k(scores, window_size).block_until_ready())

    return make


def compiled(make: Make) -> Make:
    return torch.compile(make, fullgraph=True, dynamic=False)


def causal(query_len: int, key_len: int) -> Tensor:
    """Returns the bottom-right aligned causal mask `[1, 1, Lq, Lk]`."""
    mask = torch.ones(query_len, key_len, dtype=torch.bool).tril(key_len - query_len)
    return mask[None, None]
