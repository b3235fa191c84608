"""Clean: a custom autograd function that reads a global tensor. Earlier releases broke the graph.
https://github.com/pytorch/pytorch/issues/118394
"""

import torch

_FACTOR = torch.tensor(3.0)


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.factor = _FACTOR
        return x * _FACTOR

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor


def audited(x):
    return Scaled.apply(x) + 1


example_inputs = torch.ones(3, requires_grad=True)
