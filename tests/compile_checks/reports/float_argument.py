"""Recompile: a float changes.
https://github.com/pytorch/pytorch/issues/149405
"""

import torch


def audited(x, rate):
    return x * rate  # finding: recompile


def example_inputs():
    return [(torch.ones(3), rate) for rate in (1.5, 2.5, 3.5)]


# advice: pass a tensor instead of the number: rate = torch.tensor(rate)
def fixed():
    return audited, [(x, torch.tensor(rate)) for x, rate in example_inputs()]
