"""Functions with graph breaks. Each line that a report must name ends in `# break: <function>`."""

import torch


def branch(x):
    if x.sum() > 0:  # break: branch
        return x + 1
    return x - 1


def item(x):
    return x * x.sum().item()  # break: item


def at_start(x):
    torch._dynamo.graph_break()  # break: at_start
    return x + 1


def at_end(x):
    y = x + 1
    torch._dynamo.graph_break()  # break: at_end
    return y


def in_loop(x):
    for _ in range(2):
        x = x + 1
        torch._dynamo.graph_break()  # break: in_loop
    return x


def _helper(x):
    x = x * 2
    torch._dynamo.graph_break()  # break: twice
    return x + 1


def twice(x):
    x = _helper(x)
    return _helper(x - 1)


def nonzero(x):
    return x.nonzero() + 1  # break: nonzero


@torch.compiler.disable
def _disabled(x):
    return x + 1


def disabled(x):
    x = x + 1
    return _disabled(x) * 2  # break: disabled


def two_breaks(x):
    x = x * x.sum().item()  # break: two_breaks
    return x.nonzero() + 1  # break: two_breaks


def in_torch(x):
    x.grad = x * 2
    return torch.nn.utils.clip_grad_norm_([x], 1.0, error_if_nonfinite=True)  # break: in_torch


TABLE = torch.linspace(0.9, 0.1, 10)


def rejected(x, t):
    return lookup(x.sin(), t)


def lookup(x, t):
    return x * TABLE[t]  # break: rejected


def rejected_backward(x, mask):
    x = x * 2
    x[mask] = x.sum()  # its backward pass has as many values as the mask
    return x * 3  # break: rejected_backward


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        y = self.linear(x)
        return y * y.max().item()  # break: Model
