"""A lock is no context manager that Dynamo knows. It cannot resume inside a `with` block either."""

# finding: nothing-compiled

import threading

_LOCK = threading.Lock()


def audited(x):
    with _LOCK:  # finding: graph-break GB0142
        return x + 1
