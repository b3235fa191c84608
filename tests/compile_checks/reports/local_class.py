"""Break and recompile: each call defines a new class.
https://github.com/pytorch/pytorch/issues/128942
"""

# finding: nothing-compiled before 2.13

import torch


def audited(x):
    class Config:  # finding: graph-break GB8977|GB0075
        scale = 2

    return x * Config.scale  # finding: recompile since 2.13


example_inputs = torch.ones(3)


class _Config:
    scale = 2


# advice: remove that break since 2.13
def fixed():
    return lambda x: x * _Config.scale, torch.ones(3)
