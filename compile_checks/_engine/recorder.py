"""Records the inputs of ops while code runs in eager mode."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps copies of the inputs of the first call to each wanted op."""

    def __init__(self, wanted: set[torch._ops.OpOverload]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = wanted
        self.calls: list[tuple[torch._ops.OpOverload, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._wanted:
            self._wanted.remove(func)
            inputs = torch.utils._pytree.tree_map_only(torch.Tensor, _detached, (args, kwargs))
            self.calls.append((func, *inputs))
        return func(*args, **kwargs)


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)
