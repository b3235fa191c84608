"""A deep copy of a tensor. It breaks within Python's `copy`, but it is yours to fix."""

import copy


def audited(x):
    y = x + 1
    # From 2.13 on a kind of its own.
    return copy.deepcopy(y) * 2  # finding: graph-break GB4198|GB0179
