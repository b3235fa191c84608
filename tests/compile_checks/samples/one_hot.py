"""One-hot encoding without a number of classes, which then depends on data."""

import torch


def audited(x):
    return torch.nn.functional.one_hot(x.long())  # finding: graph-break GB0246
