"""A loop as long as the data says."""


def audited(x):
    for number in range(x.sum().int()):  # finding: graph-break GB0059
        x = x + number
    return x
