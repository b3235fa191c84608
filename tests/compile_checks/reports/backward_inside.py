"""Break: the backward pass is inside the compiled function.
https://github.com/pytorch/pytorch/issues/120814
"""

import torch


def audited(weight, x):
    loss = (weight * x).square().mean()
    loss.backward()  # finding: graph-break GB0123
    return loss


def example_inputs():
    return torch.ones(3, requires_grad=True), torch.ones(3)


def fixed():
    return lambda weight, x: audited(weight, x).detach(), example_inputs


# advice: trace_autograd_ops=True since 2.13
config = {"trace_autograd_ops": True}
