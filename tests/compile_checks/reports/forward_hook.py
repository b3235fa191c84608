"""Break: a forward hook that prints.
https://github.com/pytorch/pytorch/issues/135410
"""

import torch


def _shown(module, inputs, output):
    print(output.shape)  # finding: graph-break GB0059 x2


class Audited(torch.nn.Module):
    def __init__(self, hook=_shown):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)
        self.first.register_forward_hook(hook)

    def forward(self, x):
        return self.second(self.first(x)).relu()


def audited():
    return Audited(), torch.ones(3)


# advice: Avoid calling builtin `print`
def fixed():
    return Audited(lambda module, inputs, output: None), torch.ones(3)
