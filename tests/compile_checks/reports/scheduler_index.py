"""Break: a scheduler looks up the index of its first time step.
https://github.com/huggingface/diffusers/pull/14176
"""

import torch

_TIMES = torch.linspace(900.0, 0.0, 4)


def audited(sample, time):
    index = (_TIMES == time).nonzero()  # finding: graph-break GB0036
    return sample * _TIMES[index[0].item()]  # finding: graph-break GB0124


def example_inputs():
    return torch.ones(3), torch.tensor(900.0)


# advice: capture_dynamic_output_shape_ops = True
# advice: capture_scalar_outputs = True
config = {"capture_dynamic_output_shape_ops": True, "capture_scalar_outputs": True}
