"""A deep copy of a tensor. It breaks inside Python's `copy`, but the fix is in user code."""

import copy


def audited(x):
    y = x + 1
    # From 2.13 on, this is a separate kind.
    return copy.deepcopy(y) * 2  # finding: graph-break GB4198|GB0179
