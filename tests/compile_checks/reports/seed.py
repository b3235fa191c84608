"""Break: a seed in the function.
https://github.com/pytorch/pytorch/issues/107187
"""

import torch


def audited(x):
    torch.manual_seed(3)  # finding: graph-break GB0007
    return torch.rand_like(x) + 1


example_inputs = torch.ones(3)


# advice: Avoid calling the function `manual_seed`
def fixed():
    return lambda x: torch.rand_like(x) + 1, torch.ones(3)
