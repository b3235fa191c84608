"""A break inside a generator: Dynamo traces generators, but cannot resume in the midst of one."""

# finding: nothing-compiled

import torch


def _generated(x):
    yield x + 1
    torch._dynamo.graph_break()  # finding: graph-break GB0025|GB0003
    yield x + 2


def audited(x):
    return sum(_generated(x))
