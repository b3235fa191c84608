"""Dynamo does not support locks as context managers, and cannot resume inside a `with` block."""

# finding: nothing-compiled

import threading

_LOCK = threading.Lock()


def audited(x):
    with _LOCK:  # finding: graph-break GB0142
        return x + 1
