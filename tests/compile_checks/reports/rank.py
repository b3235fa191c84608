"""Recompile: inputs with two, three and four dimensions.
https://github.com/NVIDIA/torch-harmonics/issues/209
"""

import torch


def audited(x):  # finding: recompile x2
    assert x.shape[-2:] == (2, 3)
    return x.sum((-2, -1))


def example_inputs():
    return [torch.ones(2, 3), torch.ones(4, 2, 3), torch.ones(5, 4, 2, 3)]


# advice: pass x with the same number of dimensions in every call
def fixed():
    return audited, [torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3)]
