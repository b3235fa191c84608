"""Clean: the size of a tensor that nothing uses may change. Earlier releases recompiled.
https://github.com/pytorch/pytorch/issues/131893
"""

import torch


def audited(x, unused):
    kept = unused
    return x * 2


example_inputs = [(torch.ones(3), torch.ones(4)), (torch.ones(3), torch.ones(6))]
