"""Dynamo leaves RNN, GRU and LSTM modules alone; cells are traced."""

# finding: nothing-compiled before 2.15

import torch

_LSTM = torch.nn.LSTM(3, 3)


def audited(x):
    # Torch 2.15 breaks at the call, no longer at the read of the module: the view is a graph.
    return _LSTM(x.view(1, 3))[0]  # finding: graph-break GB0014|GB0148
