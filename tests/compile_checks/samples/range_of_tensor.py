"""A loop whose length depends on data."""


def audited(x):
    # Torch 2.15 calls the tensor's `.item()`, as a slice does.
    for number in range(x.sum().int()):  # finding: graph-break GB0059|GB0124
        x = x + number
    return x
