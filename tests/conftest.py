"""What the tests share: one Inductor cache, a clean compiler, and eager and compiled as a parameter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported anywhere: the processes of one run share what Inductor has built.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "dmask-inductor")
)

import pytest
import torch
from hypothesis import settings

# Compiling is slow and the machine may be shared: a deadline would test the machine.
settings.register_profile("dmask", deadline=None, print_blob=True)
settings.load_profile("dmask")

# The tensors are small and the tests run side by side: threads would wait for each other.
torch.set_num_threads(1)

Mode = Callable[[Callable[..., Any]], Callable[..., Any]]


def _eager(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


def _compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(fn, fullgraph=True, backend="aot_eager")


@pytest.fixture(params=[_eager, _compiled], ids=["eager", "compiled"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Runs a function as it is, or as one graph: both must give the same."""
    return request.param


@pytest.fixture(autouse=True)
def _clean_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()
