"""Break: a condition on the address of a tensor makes Dynamo skip the function.
https://github.com/pytorch/pytorch/issues/128071
"""

# finding: nothing-compiled

import torch


def audited(x):
    if x.data_ptr() % 8:  # finding: graph-break GB0088|GB0059
        x = x.clone()
    return x + 1


example_inputs = torch.ones(3)
