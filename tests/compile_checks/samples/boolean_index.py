"""A result whose size depends on data."""


def audited(x):
    return x[x > 0] + 1  # finding: graph-break GB0036
