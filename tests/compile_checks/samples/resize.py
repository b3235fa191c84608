"""In-place change of a tensor's storage."""


def audited(x):
    return (x + 1).resize_(2)  # finding: graph-break GB0126
