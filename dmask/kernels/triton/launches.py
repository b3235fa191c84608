"""Prepares and caches launches of kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

SWITCH = "DMASK_TRITON"
OPTIONS: dict[str, Any] = {}
"""Options of all launches, for tuning."""


class Launch:
    """A kernel with all its arguments except the tensors.

    Triton takes 20 us to find a compiled kernel, because it inspects every argument that it may
    specialize on. A prepared launch already knows all of them except the alignment of the tensors,
    and takes half as long.
    """

    def __init__(
        self,
        op: str,
        shape: tuple[int, ...],
        kernel: Any,
        grid: tuple[int, ...],
        numbers: tuple[int, ...],
        **options: Any,
    ) -> None:
        """Prepares a launch.

        Args:
            op, shape: named in errors.
            numbers: the parameters between the tensors and the constants.
            options: the constants, and options of Triton such as `num_warps`.
        """
        self._op, self._shape, self._kernel = op, shape, kernel
        self._grid, self._numbers, self._options = grid, numbers, options | OPTIONS
        self._runners: dict[tuple[int, ...], Callable[..., None]] = {}

    def __call__(self, *tensors: Tensor) -> None:
        """Launches the kernel. All calls must pass the same dtypes on the same device.

        Raises:
            RuntimeError: if the kernel does not compile or launch. Names the op, shape and switch.
        """
        device = tensors[0].device
        try:
            if device.index is not None and device.index != torch.cuda.current_device():
                with torch.cuda.device(device):
                    self._run(tensors)
            else:
                self._run(tensors)
        except Exception as error:  # Triton, LLVM, ptxas and the driver raise various types
            raise RuntimeError(
                f"the Triton kernel of {self._op} failed for shape {tuple(self._shape)}: {error}; "
                f"to use PyTorch operations instead, set {SWITCH}=0 before the first call"
            ) from error

    def _run(self, tensors: tuple[Tensor, ...]) -> None:
        # Triton takes addresses as they are, but asks the driver about every tensor.
        addresses = [tensor.data_ptr() for tensor in tensors]
        alignment = tuple([address % 16 for address in addresses])
        run = self._runners.get(alignment)
        if run is not None:
            return run(*addresses)
        compiled = self._kernel[self._grid](*tensors, *self._numbers, **self._options)
        if compiled is None:  # the interpreter
            return None
        names = self._kernel.arg_names[len(tensors) + len(self._numbers) :]
        rest = (*self._numbers, *[self._options[name] for name in names])
        launch = compiled[(*self._grid, 1, 1)[:3]]
        self._runners[alignment] = lambda *addresses: launch(*addresses, *rest)
        return None


@lru_cache(maxsize=2**12)
def _prepared(
    op: str,
    shape: tuple[int, ...],
    kernel: Any,
    grid: tuple[int, ...],
    signature: tuple[Any, ...],  # device and dtypes, which a compiled kernel depends on
    numbers: tuple[int, ...],
    options: tuple[tuple[str, Any], ...],
) -> Launch:
    return Launch(op, shape, kernel, grid, numbers, **dict(options))


def launch(
    op: str, kernel: Any, grid: tuple[int, ...], shape: tuple[int, ...], *args: Any, **options: Any
) -> None:
    """Launches a kernel (see `Launch`). `args` are the tensors, then the numbers."""
    tensors = tuple([arg for arg in args if isinstance(arg, Tensor)])
    signature = tensors[0].device, *[tensor.dtype for tensor in tensors]
    numbers = args[len(tensors) :]
    prepared = _prepared(op, tuple(shape), kernel, grid, signature, numbers, (*options.items(),))
    prepared(*tensors)
