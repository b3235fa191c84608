"""Runs the Triton kernels on a GPU, or on CPU tensors in Triton's interpreter.

The interpreter must be enabled before Triton is imported, so without a GPU these tests run in a
separate process. See `tests/kernels/test_triton.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if not INTERPRETED and not torch.cuda.is_available():
    collect_ignore_glob = ["test_*.py"]

if INTERPRETED:
    from triton.runtime import interpreter

    patched: set[str] = set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a function of a kernel. Patches Triton's language only once per module. The
        interpreter would patch it for every call, which takes nine tenths of its time.
        """
        if self.fn.__module__ not in patched:
            patched.add(self.fn.__module__)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


@pytest.fixture
def device() -> str:
    return "cpu" if INTERPRETED else "cuda"


@pytest.fixture
def three_rows_each(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a program take three rows: what one leaves for the next must not change it."""
    from dmask.kernels.triton import layout, topk

    tile_of = layout.tile_of
    monkeypatch.setattr(
        topk, "tile_of", lambda *args: tile_of(*args)._replace(rows_each=3, alone=False)
    )
    topk._prepared.cache_clear()
    yield
    topk._prepared.cache_clear()
