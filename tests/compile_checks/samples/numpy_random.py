"""A number from NumPy's generator. It is an input of the next graph, which is compiled again."""

import numpy


def audited(x):
    return x * numpy.random.rand()  # finding: graph-break GB0033|GB0124  # finding: recompile
