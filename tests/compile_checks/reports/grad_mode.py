"""Recompile: one call with gradients and one without.
https://github.com/pytorch/pytorch/issues/144068
"""

import torch


class Inner(torch.nn.Module):
    def forward(self, x):  # finding: recompile
        return x * 2


class Evaluated(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.inner.compile(backend="aot_eager")

    def forward(self, x, enabled):
        with torch.set_grad_enabled(enabled):
            return self.inner(x)


def audited():
    return Evaluated(), [(torch.ones(3), enabled) for enabled in (True, False, True)]


# advice: make every call in one state: grad mode
def fixed():
    return Evaluated(), [(torch.ones(3), False)] * 3
