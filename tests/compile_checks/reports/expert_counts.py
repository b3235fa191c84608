"""Break: the rows of each expert are counted, and NumPy adds the counts up.
https://github.com/tenstorrent/tt-forge-models/pull/757
"""

import torch


def audited(x, experts):
    ends = experts.bincount().cpu().numpy().cumsum()  # finding: graph-break GB0036
    return x[: ends[0]] * 2  # finding: graph-break GB0033|GB0038


def example_inputs():
    return torch.ones(4, 3), torch.tensor([0, 0, 1, 2])


# advice: capture_dynamic_output_shape_ops = True since 2.13
# advice: capture_scalar_outputs = True since 2.13
config = {"capture_dynamic_output_shape_ops": True, "capture_scalar_outputs": True}
