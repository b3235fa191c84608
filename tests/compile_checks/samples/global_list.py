"""A global list that grows: no break, but a compilation for each length that the code reads."""

_SEEN = []


def audited(x):  # finding: recompile
    _SEEN.append(x.shape[0])
    return x + len(_SEEN)
