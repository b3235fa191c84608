"""Recompile: an adapter is added to a layer that was compiled without one.
https://github.com/pytorch/pytorch/issues/120958
"""

import torch


class Layer(torch.nn.Module):
    def __init__(self, adapter):
        super().__init__()
        self.adapter = adapter
        self.compile(backend="aot_eager")

    def forward(self, x):  # finding: recompile
        return x * 2 if self.adapter is None else x + self.adapter(x)  # finding: recompile


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = Layer(None)

    def forward(self, x, adapter):
        self.layer.adapter = adapter
        return self.layer(x)


def audited():
    return Model(), [(torch.ones(3), adapter) for adapter in (None, torch.nn.Linear(3, 3))]


# advice: keep self.adapter the same in every call
# advice: pass self.adapter with the same type in every call
def fixed():
    return Model(), [(torch.ones(3), torch.nn.Linear(3, 3))] * 2
