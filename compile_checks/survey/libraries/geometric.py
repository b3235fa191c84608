"""Tiny graph networks of PyTorch Geometric: those that read nodes and edges."""

from __future__ import annotations

import torch
from torch_geometric.nn import models

from compile_checks.survey.instance import Instance

NODES, FEATURES = 12, 8
_NAMES = ("GCN", "GraphSAGE", "GIN", "GAT", "PNA", "EdgeCNN")


def names() -> list[str]:
    """Returns the names of the networks."""
    return [name for name in _NAMES if hasattr(models, name)]


def build(name: str) -> Instance:
    """Builds a network of two layers, with a ring of nodes."""
    options = {}
    if name == "PNA":
        options = {"aggregators": ["mean", "max"], "scalers": ["identity"], "deg": torch.ones(3)}
    model = getattr(models, name)(FEATURES, FEATURES, num_layers=2, **options)
    ring = torch.arange(NODES)
    edges = torch.stack([ring, ring.roll(1)])
    return Instance(model, [((torch.rand(NODES, FEATURES), edges), {})])
