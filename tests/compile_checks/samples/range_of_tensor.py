"""A loop as long as the data says."""


def audited(x):
    # Torch 2.15 asks for the tensor's `.item()`, as a slice does.
    for number in range(x.sum().int()):  # finding: graph-break GB0059|GB0124
        x = x + number
    return x
