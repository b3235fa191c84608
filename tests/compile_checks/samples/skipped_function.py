"""Dynamo skips what is implemented in C and is no tensor operation."""

import time


def audited(x):
    time.sleep(0)  # finding: graph-break GB0007
    return x + 1
