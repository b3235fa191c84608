"""Break and recompile: `random.random()`, whose result is an input of the next graph.
https://github.com/pytorch/pytorch/issues/145446
"""

import random

import torch


def audited(x):
    return x * random.random()  # finding: graph-break GB0007  # finding: recompile


example_inputs = torch.ones(3)


# advice: remove that break
def fixed():
    return lambda x: x * torch.rand(()), example_inputs
