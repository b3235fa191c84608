"""Break: `warnings.warn`.
https://github.com/pytorch/pytorch/issues/135688
"""

import warnings

import torch


def audited(x):
    if x.shape[0] < 8:
        warnings.warn("few rows")  # finding: graph-break GB0007
    return x + 1


example_inputs = torch.ones(3)

# advice: torch._dynamo.config.reorderable_logging_functions
config = {"reorderable_logging_functions": {warnings.warn}}
