"""Recompile: a module counts its calls in an attribute.
https://github.com/pytorch/pytorch/issues/128319
"""

import torch


class Audited(torch.nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def forward(self, x):
        self.steps += 1  # finding: recompile x5
        return x * 2


def audited():
    return Audited(0), [torch.ones(3)] * 3


# advice: make it a tensor, in a module with register_buffer
def fixed():
    model = Audited(None)
    del model.steps
    model.register_buffer("steps", torch.tensor(0))
    return model, [torch.ones(3)] * 3
