"""Mismatch: the default dtype is set in a context manager, and `aot_eager` uses the one before.
https://github.com/pytorch/pytorch/issues/112787
"""

import torch


class Precision:
    def __init__(self, dtype):
        self.dtype, self.before = dtype, torch.get_default_dtype()

    def __enter__(self):
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *raised):
        torch.set_default_dtype(self.before)


def audited(x):  # finding: mismatch
    with Precision(torch.float64):
        return x + torch.ones(3)


example_inputs = torch.ones(3)
