"""Recompile: an input that requires a gradient, although the code runs under `no_grad`.
https://github.com/pytorch/pytorch/issues/131975
"""

import torch


def audited(a, b):  # finding: recompile
    with torch.no_grad():
        return (a + b).clip(0)


def example_inputs():
    return [(torch.ones(3, requires_grad=needed), torch.ones(3)) for needed in (False, True)]


# advice: or a = a.detach() where no gradient is needed
def fixed():
    return audited, [(a.detach(), b) for a, b in example_inputs()]
