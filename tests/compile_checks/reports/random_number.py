"""Break and recompile: `random.random()`, whose result is an input of the next graph.
https://github.com/pytorch/pytorch/issues/145446
"""

from random import random

import torch


def audited(x):
    return x * random()  # finding: graph-break GB0007 before 2.15  # finding: recompile before 2.15


example_inputs = torch.ones(3)


# advice: remove that break before 2.15
def fixed():
    return lambda x: x * torch.rand(()), example_inputs
