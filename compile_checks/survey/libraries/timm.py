"""Instances of the architectures of timm: the first model of each of its modules that is small."""

from __future__ import annotations

import re

import timm
import torch

from compile_checks.survey.instance import Instance

_SMALL = re.compile(
    r"(?:^|_)(?:nano|atto|femto|pico|tiny|xxs|xx_small|xs|mini|micro|small|s|b0|18)"
)


def names() -> list[str]:
    """Returns the modules that define models."""
    return sorted(name for name in timm.list_modules() if timm.list_models(module=name))


def build(name: str) -> Instance:
    """Builds a small model of a module, with random weights and a picture of its size."""
    models = timm.list_models(module=name)
    small = [model for model in models if _SMALL.search(model)]
    model = timm.create_model((small or models)[0], pretrained=False)
    size = model.default_cfg["input_size"]
    return Instance(model, [((torch.rand(2, *size),), {})])
