"""Brings checked biases and masks to a common shape. What may be brought together, and how errors
say that it may not, stands in `validation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmask.validation import Shape, TensorMeta


def fits(bias: TensorMeta, mask: TensorMeta | None, shape: Shape) -> bool:
    """Whether `align` would leave both tensors as they are."""
    if bias.shape[3] != shape[3] or bias.shape[1] not in (1, shape[1]):
        return False
    return mask is None or (
        mask.dtype is torch.bool and len(mask.shape) == 4 and mask.shape[1] in (1, shape[1])
    )


def align(
    attention_bias: Tensor, attention_mask: Tensor | None, shape: Shape
) -> tuple[Tensor, Tensor | None]:
    """Brings checked tensors together for a mask of `shape`.

    The bias comes to have all heads and keys of `shape`, or one head; the mask is 4-D, bool, and
    has those heads. Both then broadcast against each other.
    """
    bias = repeat_heads(attention_bias, shape[1])
    if bias.shape[3] != shape[3]:
        bias = bias.expand(-1, -1, -1, shape[3])
    if attention_mask is None:
        return bias, None
    return bias, repeat_heads(bool_mask_4d(attention_mask, shape[3]), shape[1])


def bool_mask_4d(mask: Tensor, key_len: int) -> Tensor:
    """A checked mask as bool, 4-D: a `(B, S)` mask becomes `(B, 1, 1, key_len)`.

    With `S < key_len` it speaks of the new queries only; the keys before them are a cache that may
    be attended.
    """
    if mask.dtype is not torch.bool:
        mask = mask != 0
    if mask.dim() == 4:
        return mask
    missing = key_len - mask.shape[1]
    if missing:
        mask = torch.nn.functional.pad(mask, (missing, 0), value=True)
    return mask[:, None, None, :]


def repeat_heads(tensor: Tensor, heads: int) -> Tensor:
    """Repeats each of a 4-D tensor's heads per group: head `h` of the result is `h // groups`.

    One head broadcasts by itself and is left alone.
    """
    own = tensor.shape[1]
    return tensor if own in (1, heads) else tensor.repeat_interleave(heads // own, dim=1)
