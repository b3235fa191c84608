"""A break inside a generator: Dynamo traces generators, but cannot resume inside one."""

# finding: nothing-compiled

import torch


def _generated(x):
    yield x + 1
    torch._dynamo.graph_break()  # finding: graph-break GB0025|GB0003 since 2.13
    yield x + 2


def audited(x):
    # Torch 2.9 has the stack of the generator's consumer, not the generator's.
    return sum(_generated(x))  # finding: graph-break GB0025 before 2.13
