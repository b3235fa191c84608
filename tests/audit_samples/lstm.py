"""Dynamo leaves RNN, GRU and LSTM modules alone; cells are traced."""

# finding: nothing-compiled

import torch

_LSTM = torch.nn.LSTM(3, 3)


def audited(x):
    return _LSTM(x.view(1, 3))[0]  # finding: graph-break GB0014
