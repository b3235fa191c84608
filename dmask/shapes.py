"""Brings biases and masks that `validation` has checked to a common shape."""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.compat import known
from dmask.kernels.reference.masks import as_bool
from dmask.validation import Shape, TensorMeta


def fits(bias: TensorMeta, mask: TensorMeta | None, shape: Shape) -> bool:
    """True if `align` would return both tensors unchanged."""
    same = (bias.shape[1] == shape[1]) is True and (bias.shape[3] == shape[3]) is True
    if not same and (known(bias.shape[3] != shape[3]) or not _broadcasts(bias.shape[1], shape[1])):
        return False
    return mask is None or (
        mask.dtype is torch.bool and len(mask.shape) == 4 and _broadcasts(mask.shape[1], shape[1])
    )


def _broadcasts(own: int, heads: int) -> bool:
    return known(own == 1) or known(own == heads)


def align(
    attention_bias: Tensor, attention_mask: Tensor | None, shape: Shape
) -> tuple[Tensor, Tensor | None]:
    """Brings checked tensors to a common shape, for a mask of `shape`.

    Returns:
        The bias with one head or all heads of `shape`, and all its keys. The mask as 4-D bool, with
        one head or all heads. They broadcast against each other.
    """
    bias = repeat_heads(attention_bias, shape[1])
    if (bias.shape[3] != shape[3]) is not False and known(bias.shape[3] != shape[3]):
        bias = bias.expand(-1, -1, -1, shape[3])
    if attention_mask is None:
        return bias, None
    return bias, repeat_heads(bool_mask_4d(attention_mask, shape[3]), shape[1])


def bool_mask_4d(mask: Tensor, key_len: int) -> Tensor:
    """Converts a checked mask to 4-D bool. A `(B, S)` mask becomes `(B, 1, 1, key_len)`.

    With `S < key_len`, the mask covers only the new keys. The cached keys before them are allowed.
    """
    if mask.dtype is not torch.bool:
        mask = as_bool(mask)
    if mask.dim() == 4:
        return mask
    missing = key_len - mask.shape[1]
    if (missing != 0) is not False and known(missing != 0):
        mask = torch.nn.functional.pad(mask, (missing, 0), value=True)
    return mask[:, None, None, :]


def repeat_heads(tensor: Tensor, heads: int) -> Tensor:
    """Repeats each head of a 4-D tensor per group: head `h` of the result is head `h // groups`.

    A single head is not repeated, because it broadcasts.
    """
    own = tensor.shape[1]
    if (own == 1) is True or (own == heads) is True or _broadcasts(own, heads):
        return tensor
    return tensor.repeat_interleave(heads // own, dim=1)
