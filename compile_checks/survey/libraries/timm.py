"""Instances of the architectures of timm: the smallest model of each of its modules."""

from __future__ import annotations

import re

import timm
import torch

from compile_checks.survey.instance import Instance

_SIZES = (
    *("atto", "femto", "pico", "nano", "b0", "xxs", "xx_small", "xxtiny"),
    *("tiny", "ti", "t", "xs", "mini", "(?:[a-z]*resnet)?18", "small", "s"),
)
"""The sizes that names contain, smallest first."""
_SMALL = [re.compile(rf"(?:[a-z][a-z\d]*_)*{size}\d*(?:_|$)") for size in _SIZES]
"""Sizes are whole words, as in `swin_tiny_patch4` and `cait_s24`. Words before them begin with a
letter: the last word of `levit_384_s8` is no size.
"""


def names() -> list[str]:
    """Returns the modules that define models."""
    return sorted(name for name in timm.list_modules() if timm.list_models(module=name))


def smallest(models: list[str]) -> str:
    """Returns the model with the smallest size in its name; the first one, if none has a size."""
    return min(models, key=_rank)


def _rank(model: str) -> int:
    matches = (rank for rank, size in enumerate(_SMALL) if size.match(model))
    return next(matches, len(_SMALL))


def build(name: str) -> Instance:
    """Builds a small model of a module, with random weights and a picture of its size."""
    model = timm.create_model(smallest(timm.list_models(module=name)), pretrained=False)
    size = model.default_cfg["input_size"]
    return Instance(model, [((torch.rand(2, *size),), {})])
