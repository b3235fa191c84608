"""Clean: a function of `numpy.linalg`. Earlier releases broke the graph.
https://github.com/pytorch/pytorch/issues/105269
"""

import numpy


def audited(x):
    return x / numpy.linalg.norm(x.numpy())


def example_inputs():
    import torch

    return torch.ones(3)
