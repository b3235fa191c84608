"""Python's `sorted` over tensors: the order depends on data."""


def audited(x):
    return sorted([x.sum(), x.max()])[0]  # finding: graph-break GB0207
