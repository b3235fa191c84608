"""All that an audit may disturb, and that it leaves as it found it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import torch._dynamo
from torch._dynamo import eval_frame

# Stances of the caller under which no recompile can be watched. One that switches the compiler off
# stays: what is then not compiled is a finding.
_HIDING = ("fail_on_recompile", "eager_on_recompile", "eager_then_compile")


@contextmanager
def clean_compiler() -> Iterator[None]:
    """A compiler that has compiled nothing, before a block and after it.

    Dynamo's configuration, its stance and the states of the random generators are put back, also
    where the block changes them itself or raises.
    """
    with ExitStack() as stack:
        stack.enter_context(_same_dynamo())
        stack.enter_context(torch.random.fork_rng(_devices()))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.enter_context(warnings.catch_warnings())
        # What Dynamo warns of becomes a finding. Where warnings are errors, it would not get there.
        warnings.filterwarnings("ignore", module=r"torch\.")
        torch.compiler.reset()
        stack.callback(torch.compiler.reset)
        if eval_frame._stance.stance in _HIDING:
            stack.enter_context(torch.compiler.set_stance("default"))
        # A caller may have told Dynamo to raise at a recompile; an audit reports it instead.
        stack.enter_context(
            torch._dynamo.config.patch(error_on_recompile=False, fail_on_recompile_limit_hit=False)
        )
        yield


def seed() -> None:
    """Lets the random generators begin anew."""
    if torch.accelerator.is_available():
        torch.manual_seed(0)
    else:  # the line above notes a stack for each kind of device that there is not: 0.2 ms
        torch.default_generator.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _devices() -> list[int]:
    """Those whose random generators exist already. Asking for others would set up CUDA."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [*range(torch.cuda.device_count())] if ready else []


@contextmanager
def _same_dynamo() -> Iterator[None]:
    config: Any = torch._dynamo.config
    stance, before = eval_frame._stance, config.get_config_copy()
    try:
        yield
    finally:
        for name, value in config.get_config_copy().items():
            if value != before[name]:
                setattr(config, name, before[name])
        eval_frame._stance = stance
