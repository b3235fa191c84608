"""Whether a tensor was made in inference mode is not known while tracing."""


def audited(x):
    return x if x.is_inference() else x + 1  # finding: graph-break GB0045
