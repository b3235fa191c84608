"""Checks that the inlined path and dmask give bitwise equal gradients under `torch.func`.

Unlike `backward()`, `torch.func.grad` and `torch.func.jvp` call ops through functorch's dispatch.

Run `python -m benchmarks.grad_equivalence [--device cuda] [--quick]`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp

from benchmarks import equivalence
from benchmarks.backward_equivalence import NAMES
from benchmarks.equivalence import Case, Inputs


def transforms(
    attention: Callable[[Case, Inputs], Tensor], case: Case, inputs: Inputs
) -> tuple[Tensor, ...]:
    """Returns the gradients of query, key, value and bias, and a directional derivative."""
    tensors = tuple(tensor.detach() for tensor in inputs.differentiable)

    def loss(*tensors: Tensor) -> Tensor:
        query, key, value, bias = tensors
        output = attention(case, Inputs(query, key, value, bias, inputs.mask))
        return output.float().square().sum()

    gradients: tuple[Tensor, ...] = grad(loss, argnums=(0, 1, 2, 3))(*tensors)
    if case.backend == "sdpa":  # its fused kernels have no forward-mode derivative
        return gradients
    directions = tuple(torch.ones_like(tensor) for tensor in tensors)
    return (*gradients, jvp(loss, tensors, directions)[1])


def differences(case: Case, inputs: Inputs) -> list[str]:
    old = transforms(equivalence.old_attention, case, inputs)
    new = transforms(equivalence.new_attention, case, inputs)
    return [
        f"derivatives ({name}) differ"
        for name, a, b in zip((*NAMES, "direction"), old, new, strict=False)
        if not torch.equal(a, b)
    ]


def main(argv: list[str] | None = None) -> int:
    return equivalence.run("Functional derivatives, old path and new", differences, argv)


if __name__ == "__main__":
    sys.exit(main())
