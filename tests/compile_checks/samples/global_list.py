"""A global list that grows: no break, but a compilation for each length that the code reads."""

_SEEN = []


def audited(x):
    _SEEN.append(x.shape[0])  # finding: recompile
    return x + len(_SEEN)
