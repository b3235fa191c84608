"""Chooses kernels, and bypasses the dispatcher for plain tensors.

A *backend* is a folder of `dmask/kernels/`. A kernel is a function that has the same name in the
same file of every backend that implements it: `kernels/reference/topk.py` and
`kernels/cpu/topk.py` both define `topk_mask`. Modules are imported by the first call that needs
them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch.compiler import is_dynamo_compiling

from dmask.arguments import check_types
from dmask.compat import plain_check
from dmask.contracts.spec import OpSpec


class Backend(NamedTuple):
    """A folder of kernels, and the tensors that it supports."""

    name: str
    device: str
    dtypes: tuple[torch.dtype, ...]
    usable: Callable[[torch.device], bool] = lambda device: True
    """Returns True if a device can run the kernels."""


TRITON_SWITCH = "DMASK_TRITON"
"""Set this environment variable to 0 before the first call to use the reference on CUDA."""


def _runs_triton(device: torch.device) -> bool:
    if os.environ.get(TRITON_SWITCH) == "0":
        return False
    return _why_no_triton(device) is None


@cache
def _why_no_triton(device: torch.device) -> str | None:
    """Returns why a device cannot run Triton kernels, or None if it can. Logs the reason once."""
    why = None
    try:
        import_module("triton")
        if torch.version.hip is not None:
            why = "no kernels for ROCm"
        elif torch.cuda.get_device_capability(device) < (8, 0):
            why = "a compute capability below 8.0"
    except Exception as error:  # Triton is missing or does not work here
        why = repr(error)
    if why is not None:
        logging.getLogger("dmask").debug("Triton kernels are not used on %s: %s", device, why)
    return why


CPU = Backend("cpu", "cpu", (torch.float32, torch.bfloat16, torch.float16, torch.float64))
TRITON = Backend("triton", "cuda", (torch.float32, torch.bfloat16, torch.float16), _runs_triton)
BACKENDS = {backend.name: backend for backend in (CPU, TRITON)}
"""All backends except `"reference"`, which supports every device and dtype."""

FEW_SCORES = 2**12
"""Up to this many scores, a few PyTorch operations on the CPU take less time than the overhead of
calling a compiled loop.
"""


class Kernel:
    """A kernel, and the backends that implement it. Functions are loaded at first use.

    Args:
        path: `"<file>.<function>"`, as in `"topk.topk_mask"`.
        backends: the names of the backends that implement it in addition to `"reference"`, in order
            of preference.
    """

    def __init__(self, path: str, *backends: str) -> None:
        self._file, _, self._function = path.partition(".")
        self._backends = tuple(BACKENDS[name] for name in backends)
        self._loaded: dict[str, Callable[..., Any]] = {}

    def choose(
        self, device: torch.device, dtype: torch.dtype | None, scores: int | None = None
    ) -> Callable[..., Any]:
        """Returns the function of the first backend that supports this device and dtype.

        Args:
            dtype: the dtype of the scores, or `None` for a kernel that takes no scores.
            scores: the number of scores. Give it if the reference is faster for few scores.
        """
        for backend in self._backends:
            fits = dtype is None or dtype in backend.dtypes
            if fits and device.type == backend.device and backend.usable(device):
                few = backend is CPU and scores is not None and scores <= FEW_SCORES
                return self.reference if few else self._load(backend.name)
        return self.reference

    @property
    def reference(self) -> Callable[..., Any]:
        """The reference function, for every device and dtype."""
        return self._load("reference")

    def _load(self, backend: str) -> Callable[..., Any]:
        if backend not in self._loaded:
            module = import_module(f"dmask.kernels.{backend}.{self._file}")
            self._loaded[backend] = getattr(module, self._function)
        return self._loaded[backend]


def call(spec: OpSpec, *args: Any) -> Any:
    """Calls an op with all its arguments, by position.

    Plain tensors bypass the dispatcher. At decode sizes, dispatching to a Python kernel takes half
    as long as computing the mask.
    """
    if not is_dynamo_compiling():
        tensors = spec.tensors_of(args)
        if plain_check()(tensors):
            return spec.planned(args).run(*tensors)
    args = check_types(spec.types, args)  # raises errors that name the argument
    positional, star, keyword_only = spec.types.partition("*, ")
    if not star:
        return spec.overload(*args)
    count = positional.count(", ")
    names = [declared.split(" ")[1] for declared in keyword_only.split(", ")]
    return spec.overload(*args[:count], **dict(zip(names, args[count:], strict=True)))


def is_direct(spec: OpSpec, args: tuple[Any, ...]) -> bool:
    """True if the dispatcher would do nothing but select the kernel."""
    return plain_check()(spec.tensors_of(args))
