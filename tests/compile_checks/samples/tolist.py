"""A list of floats from a tensor."""


def audited(x):
    return x + x.tolist()[0]  # finding: graph-break GB0109
