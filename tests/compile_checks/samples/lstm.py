"""Dynamo does not trace RNN, GRU and LSTM modules, only their cells."""

# finding: nothing-compiled before 2.15

import torch

_LSTM = torch.nn.LSTM(3, 3)


def audited(x):
    # Torch 2.15 breaks at the call instead of at the read of the module, so the view is a graph.
    return _LSTM(x.view(1, 3))[0]  # finding: graph-break GB0014|GB0148
