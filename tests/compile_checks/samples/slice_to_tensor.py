"""A slice whose end depends on data."""


def audited(x):
    # A tensor as a bound was a separate kind before Dynamo called its `.item()`.
    count = (x > 0).sum()
    return x[:count] + 1  # finding: graph-break GB0124|GB0038
