"""Clean: the builtin `filter` over tensors. Earlier releases broke the graph.
https://github.com/pytorch/pytorch/issues/128944
"""

import torch


def audited(tensors):
    total = 0
    for tensor in filter(lambda tensor: tensor.requires_grad, tensors):
        total = total + tensor.sum()
    return total


example_inputs = ([torch.ones(3), torch.ones(3, requires_grad=True)],)
