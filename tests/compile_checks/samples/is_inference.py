"""Dynamo does not know while tracing if a tensor was created in inference mode."""


def audited(x):
    return x if x.is_inference() else x + 1  # finding: graph-break GB0045
