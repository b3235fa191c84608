"""Runs the Triton kernels on a GPU, or on CPU tensors in Triton's interpreter.

The interpreter has to be chosen before Triton is imported, so without a GPU these tests run in a
process of their own: see `tests/kernels/test_triton.py`.
"""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if not INTERPRETED and not torch.cuda.is_available():
    collect_ignore_glob = ["test_*.py"]

if INTERPRETED:
    from triton.runtime.interpreter import InterpretedFunction

    # It prepares Triton's language again for every call between kernels: nine tenths of its time.
    InterpretedFunction.__call__ = lambda self, *args, **kwargs: self.rewrite()(*args, **kwargs)


@pytest.fixture
def device() -> str:
    return "cpu" if INTERPRETED else "cuda"
