"""A model to survey, with its inputs."""

from __future__ import annotations

from typing import Any, NamedTuple

from compile_checks._engine.scenarios import Calls


class Instance(NamedTuple):
    """A tiny random model, and calls that a user would make."""

    model: Any
    calls: Calls
    decoder: Any = None
    """The same architecture as a language model with a cache; `None` if it has none."""
    steps: Calls = ()
    """The calls of the decoder: a prompt, then one token after another."""
