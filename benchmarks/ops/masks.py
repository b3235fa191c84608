"""`as_bool`: converts an integer mask of 0 and 1 to bool."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.ops import Case, Inputs


def cases(inputs: Inputs) -> Iterator[Case]:
    mask = (inputs.scores() > 0).long()
    yield Case(
        "int64",
        "check the values, bool()",
        lambda: torch.ops.dmask.as_bool(mask),
        lambda: checked(mask),
    )


def checked(mask: Tensor) -> Tensor:
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("the mask has values other than 0 and 1")
    return mask.bool()
