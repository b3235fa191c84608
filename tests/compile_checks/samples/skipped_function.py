"""Dynamo skips C functions that are not tensor operations."""

import time


def audited(x):
    time.sleep(0)  # finding: graph-break GB0007
    return x + 1
