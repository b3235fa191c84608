"""Break: a custom autograd function whose backward pass prints. Its forward pass breaks too.
https://github.com/pytorch/pytorch/issues/138215
"""

import torch


class Watched(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        print("gradient", grad.shape)  # finding: graph-break GB0059
        return grad * 2


def audited(x):
    return Watched.apply(x + 1) + 1


class Silent(Watched):
    @staticmethod
    def backward(ctx, grad):
        return grad * 2


# advice: Avoid calling builtin `print`
def fixed():
    return lambda x: Silent.apply(x + 1) + 1, example_inputs


example_inputs = torch.ones(3, requires_grad=True)
