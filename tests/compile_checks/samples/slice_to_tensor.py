"""The end of a slice that depends on data."""


def audited(x):
    # A tensor as a bound was a kind of its own before Dynamo asked for its `.item()`.
    count = (x > 0).sum()
    return x[:count] + 1  # finding: graph-break GB0124|GB0038
