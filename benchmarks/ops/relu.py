"""`relu_mask`: the keys with a score above zero."""

from __future__ import annotations

from collections.abc import Iterator

import dmask
from benchmarks.ops import Case, Inputs


def cases(inputs: Inputs) -> Iterator[Case]:
    bias, mask = inputs.scores(), inputs.padding()[:, None, None]
    yield Case(
        "fp32, padding",
        "compare, and",
        lambda: dmask.relu_mask(bias, mask),
        lambda: (bias > 0) & mask,
    )
