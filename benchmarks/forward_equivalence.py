"""Checks that the inlined path and `maybe_create_mask` give bitwise equal masks and outputs.

Run `python -m benchmarks.forward_equivalence [--device cuda] [--quick]`.
"""

from __future__ import annotations

import sys

import torch

import dmask
from benchmarks import equivalence
from benchmarks.equivalence import WINDOW, Case, Inputs


def differences(case: Case, inputs: Inputs) -> list[str]:
    found = []
    if not case.causal:  # maybe_create_mask has no is_causal; attention passes causality as a mask
        batch, _, queries, _ = inputs.query.shape
        keys = inputs.key.shape[2]
        mask = dmask.maybe_create_mask(inputs.bias, inputs.mask, batch, queries, keys, WINDOW)
        expected = equivalence.inlined_mask(case, inputs)
        if keys <= WINDOW:
            same = mask is inputs.mask
        else:
            assert mask is not None
            assert expected is not None
            same = torch.equal(mask, expected)
        found += [] if same else ["masks differ"]
    with torch.no_grad():
        old = equivalence.old_attention(case, inputs)
        new = equivalence.new_attention(case, inputs)
    return found + ([] if torch.equal(old, new) else ["outputs differ"])


def main(argv: list[str] | None = None) -> int:
    return equivalence.run("Forward: masks and outputs, old path and new", differences, argv)


if __name__ == "__main__":
    sys.exit(main())
