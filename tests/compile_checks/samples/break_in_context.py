"""A break inside a `with` block of a custom class makes Dynamo skip the whole function."""

# finding: nothing-compiled

import contextlib

import torch


@contextlib.contextmanager
def _context():
    yield


def audited(x):
    with _context():
        y = x + 1
        torch._dynamo.graph_break()  # finding: graph-break GB0066|GB0025
    return y * 2
