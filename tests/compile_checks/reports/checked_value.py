"""Break: an error if a value is zero.
https://github.com/pytorch/vision/pull/9314
"""

import torch


def audited(image, deviation):
    if (deviation == 0).any():  # finding: graph-break GB0170
        raise ValueError("the deviation has a zero")
    return image / deviation


def example_inputs():
    return torch.ones(3, 2), torch.ones(2)


def _clamped(image, deviation):
    return image / torch.clamp(deviation, min=1e-6)


# advice: torch.clamp since 2.13
def fixed():
    return _clamped, example_inputs()
