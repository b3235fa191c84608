"""Prepares and caches launches of kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.runtime import driver

SWITCH = "DMASK_TRITON"
OPTIONS: dict[str, Any] = {}
"""Options of all launches, for tuning."""


_recording: ContextVar[list[Launch] | None] = ContextVar("_recording", default=None)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Records launches in the graph that is being traced, instead of executing them."""
    launches: list[Launch] = []
    token = _recording.set(launches)
    try:
        yield launches
    finally:
        _recording.reset(token)


class Launch:
    """A kernel with all its arguments except the tensors.

    Triton takes 20 us to find a compiled kernel, because it inspects every argument that it may
    specialize on. A prepared launch already knows all of them except the alignment of the tensors.
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
        self._grid, self._numbers, self._options = (*grid, 1, 1)[:3], numbers, options | OPTIONS
        self._compiled: dict[tuple[int, ...], tuple[Any, ...]] = {}

    @property
    def capped(self) -> bool:
        """True if the kernel is limited to some registers, so that more programs run at once."""
        return self._options.get("maxnreg") is not None

    def __call__(self, *tensors: Tensor) -> None:
        """Launches the kernel. All calls must pass the same dtypes on the same device.

        Raises:
            RuntimeError: if the kernel does not compile or launch. Names the op, shape and switch.
        """
        recording = _recording.get()
        if recording is not None:
            recording.append(self)
            self._record(tensors)
            return
        device = tensors[0].device
        try:
            # The interpreter takes tensors on the CPU.
            if device.index is None or device.index == torch.cuda.current_device():
                self._run(tensors)
            else:
                with torch.cuda.device(device):
                    self._run(tensors)
        except Exception as error:  # Triton, LLVM, ptxas and the driver raise various types
            raise RuntimeError(
                f"the Triton kernel of {self._op} failed for shape {tuple(self._shape)}: {error}; "
                f"to use PyTorch operations instead, set {SWITCH}=0 before the first call"
            ) from error

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        options = dict(self._options)
        # A graph can hold neither. Kernels overlap only if they are launched with the second.
        options.pop("maxnreg", None)
        options.pop("launch_pdl", None)
        options |= dict.fromkeys(options.keys() & {"STARTS", "WAITS"}, False)
        torch.library.wrap_triton(self._kernel)[self._grid](*tensors, *self._numbers, **options)

    def _run(self, tensors: tuple[Tensor, ...]) -> None:
        # Triton takes addresses as they are, but asks the driver about every tensor.
        addresses = [tensor.data_ptr() for tensor in tensors]
        alignment = tuple([address % 16 for address in addresses])
        prepared = self._compiled.get(alignment)
        if prepared is None:
            compiled = self._kernel[self._grid](*tensors, *self._numbers, **self._options)
            if compiled is not None:  # the interpreter compiles nothing
                names = self._kernel.arg_names[len(tensors) + len(self._numbers) :]
                rest = (*self._numbers, *[self._options[name] for name in names])
                self._compiled[alignment] = compiled, compiled.run, rest
            return
        compiled, run, rest = prepared
        if _has_hooks():
            compiled[self._grid](*addresses, *rest)
            return
        # What `compiled[grid]` does, without data for hooks, which takes as long as the rest.
        stream = driver.active.get_current_stream(tensors[0].get_device())
        function, metadata = compiled.function, compiled.packed_metadata
        run(*self._grid, stream, function, metadata, None, None, None, *addresses, *rest)


def _has_hooks() -> bool:
    """True if somebody, such as a profiler, asked Triton to be told of launches."""
    hooks = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return any(hook is not None and getattr(hook, "calls", True) for hook in hooks)


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
