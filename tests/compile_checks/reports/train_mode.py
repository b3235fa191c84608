"""Recompile: training and evaluation in turn. One recompile is due, and there is only one.
https://github.com/pytorch/pytorch/issues/110803
"""

import torch

from compile_checks import Step


class Inner(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, self.training)  # finding: recompile


class Trainer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.inner.compile(backend="aot_eager")

    def forward(self, x, train):
        return self.inner.train(train)(x)


def audited():
    return Trainer(), [(torch.ones(3), train) for train in (True, False, True, False)]


# advice: allow a recompile for each value
def fixed():
    model, calls = audited()
    return model, [Step(call, recompiles=int(n == 1)) for n, call in enumerate(calls)]
