"""Saves and restores the process-wide state that an audit changes."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from compile_checks import _compat

# Stances that hide recompiles. A stance that turns the compiler off is left on, because the audit
# reports it as `nothing-compiled`.
_HIDING = ("fail_on_recompile", "eager_on_recompile", "eager_then_compile")


@contextmanager
def restored_generators() -> Iterator[None]:
    """Restores the random generators after a block."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(_devices()))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        yield


@contextmanager
def clean_compiler() -> Iterator[None]:
    """Resets the compiler before and after a block.

    Dynamo's configuration, its stance and the random generators are restored, even if the block
    changes them or raises.
    """
    with ExitStack() as stack:
        stack.enter_context(_compat.restored_dynamo())
        stack.enter_context(restored_generators())
        stack.enter_context(warnings.catch_warnings())
        # Dynamo's warnings become findings. Raised as errors, they would end the audit first.
        warnings.filterwarnings("ignore", module=r"torch\.")
        torch.compiler.reset()
        stack.callback(torch.compiler.reset)
        if _compat.stance() in _HIDING:
            stack.enter_context(torch.compiler.set_stance("default"))
        stack.enter_context(_compat.recompiles_do_not_raise())
        yield


def seed(number: int = 0) -> None:
    """Seeds the random generators."""
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:  # manual_seed records a stack for each device type that is missing, which takes 0.2 ms
        torch.default_generator.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def numpy_random_state() -> tuple[bytes, int]:
    """Returns the state of NumPy's global generator."""
    state: Any = np.random.get_state()
    return state[1].tobytes(), state[2]


def _devices() -> list[int]:
    """Returns the CUDA devices with generators, or none if querying them would initialize CUDA."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [*range(torch.cuda.device_count())] if ready else []
