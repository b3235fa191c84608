"""An in-place random fill of an input."""

# finding: nothing-compiled


def audited(x):
    return x.random_()  # finding: graph-break GB0107
