"""Conversion of integer masks to bool."""

from __future__ import annotations

from torch import Tensor

from dmask import compat

BAD_VALUES = (
    "an integer attention_mask must contain only 0 (forbidden) and 1 (may be attended to), "
    "got other values; "
    "convert an additive mask with `attention_mask == 0`"
)


def as_bool(mask: Tensor) -> Tensor:
    """Converts an integer mask of 0 and 1 to bool.

    Raises:
        ValueError: for other values. On a GPU this fails later, with an assertion.
    """
    if mask.device.type != "cpu":
        return as_bool_later(mask).contiguous()
    allowed = (mask == 1).contiguous()
    if not (allowed | (mask == 0)).all():
        raise ValueError(BAD_VALUES)
    return allowed


def as_bool_later(mask: Tensor) -> Tensor:
    """Does the same with an assertion instead of an error, for GPUs and traced code."""
    allowed = mask == 1
    compat.assert_later((allowed | (mask == 0)).all(), BAD_VALUES)
    return allowed
