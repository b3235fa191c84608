"""A number from NumPy's generator."""

import numpy


def audited(x):
    return x * numpy.random.rand()  # finding: graph-break GB0033|GB0124
