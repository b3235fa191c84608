"""Break: a child with a backward hook.
https://github.com/pytorch/pytorch/issues/133303
"""

import torch


class Audited(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)
        self.second.register_full_backward_hook(lambda module, inputs, outputs: None)

    def forward(self, x):
        return self.second(self.first(x)).relu()  # finding: graph-break GB0083


def audited():
    return Audited(), torch.ones(3)


# advice: torch._dynamo.config.compiled_autograd = True
config = {"compiled_autograd": True}
