"""A break inside a `try` block makes Dynamo skip the whole function."""

# finding: nothing-compiled

import torch


def audited(x):
    try:
        y = x + 1
        torch._dynamo.graph_break()  # finding: graph-break GB0025
    except ValueError:
        y = x
    return y
