"""A loop that runs as long as the data says. The loop of the resume function breaks there too."""


def audited(x):
    while x.sum() < 100:  # finding: graph-break GB0170 x2
        x = x * 2
    return x
