"""Recompile: a cached function counts in a global. Dynamo traces it again in every call.
https://github.com/pytorch/pytorch/issues/146598
"""

import functools

import torch

_COUNT = 0


@functools.cache
def _cached(size):
    global _COUNT
    _COUNT += 1  # finding: recompile x5 before 2.15
    return size + 1


def audited(x):
    return x * _cached(x.shape[0])


_TENSOR = torch.tensor(0)


@functools.cache
def _counted(size):
    _TENSOR.add_(1)
    return size + 1


# advice: pass a tensor instead of the number: _COUNT = torch.tensor(_COUNT) before 2.15
def fixed():
    return lambda x: x * _counted(x.shape[0]), example_inputs


example_inputs = [torch.ones(3)] * 3
