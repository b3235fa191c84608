"""Break: a loop over as many relations as the data has.
https://github.com/pyg-team/pytorch_geometric/issues/8467
"""

import torch


def audited(x, types):
    out = torch.zeros_like(x)
    for relation in range(int(types.max()) + 1):  # finding: graph-break GB0124
        out = out + x * (types == relation).sum()
    return out


def example_inputs():
    return torch.ones(3), torch.tensor([0, 1, 1])
