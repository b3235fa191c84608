"""The names of the optional checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from compile_checks._engine.capture import Backend

Gate = Literal["cudagraph", "export", "host-sync", "opcheck", "pt2"]
GATES: Final[tuple[Gate, ...]] = get_args(Gate)
DEFAULT_GATES: Final[tuple[Gate, ...]] = ("pt2",)
"""The gates that cost nothing."""
CUDA_GATES: Final[tuple[Gate, ...]] = ("cudagraph", "host-sync")
"""The gates that need a GPU."""

ExpectedGraph = str | Mapping[str, int]
"""The canonical text of all graphs, separated by empty lines; or the number of calls of each op."""


def check_names(gates: Iterable[str], backend: Backend) -> None:
    """Raises a `ValueError` for an unknown gate, or for one that the backend does not support."""
    for gate in gates:
        if gate not in GATES:
            raise ValueError(f"unknown gate {gate!r}; expected one of {GATES}")
        if gate == "cudagraph" and backend != "inductor":
            raise ValueError(f"gate 'cudagraph' requires backend 'inductor', got {backend!r}")


def has_gpu() -> bool:
    """True if there is a CUDA device."""
    import torch  # `--help` names the gates without it

    return torch.cuda.is_available()
