"""Shared fixtures: one Inductor cache, a clean compiler, eager and compiled mode."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Set before torch is imported, so that all processes of a run share one Inductor cache.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "dmask-inductor")
)

import pytest
import torch
from hypothesis import settings

# Compiling is slow on a busy machine, so examples have no deadline.
settings.register_profile("dmask", deadline=None, print_blob=True)
settings.load_profile("dmask")

# The tensors are small and tests run in parallel, so more threads would only wait.
torch.set_num_threads(1)

Mode = Callable[[Callable[..., Any]], Callable[..., Any]]


def _eager(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


def _compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(fn, fullgraph=True, backend="aot_eager")


@pytest.fixture(params=[_eager, _compiled], ids=["eager", "compiled"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Runs a function eagerly, or compiled as one graph. Both must give the same result."""
    return request.param


@pytest.fixture(autouse=True)
def _clean_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()
