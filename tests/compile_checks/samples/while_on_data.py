"""A loop whose condition depends on data. The loop of the resume function also breaks there."""


def audited(x):
    while x.sum() < 100:  # finding: graph-break GB0170 x2
        x = x * 2
    return x
