"""Checks that the inlined path and `maybe_create_mask` give bitwise equal gradients.

Run `python -m benchmarks.backward_equivalence [--device cuda] [--quick]`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import equivalence
from benchmarks.equivalence import Case, Inputs

NAMES = ("query", "key", "value", "bias")


def gradients(
    attention: Callable[[Case, Inputs], Tensor], case: Case, inputs: Inputs
) -> list[Tensor]:
    """Returns the gradients of query, key, value and bias after `backward()`."""
    for tensor in inputs.differentiable:
        tensor.grad = None
    output = attention(case, inputs)
    weights = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    torch.autograd.backward(output, weights.view_as(output))
    grads = [tensor.grad for tensor in inputs.differentiable]
    assert all(grad is not None for grad in grads)
    return [grad for grad in grads if grad is not None]


def differences(case: Case, inputs: Inputs) -> list[str]:
    old = gradients(equivalence.old_attention, case, inputs)
    new = gradients(equivalence.new_attention, case, inputs)
    return [
        f"gradients of {name} differ"
        for name, a, b in zip(NAMES, old, new, strict=True)
        if not torch.equal(a, b)
    ]


def main(argv: list[str] | None = None) -> int:
    return equivalence.run("Backward: gradients, old path and new", differences, argv)


if __name__ == "__main__":
    sys.exit(main())
