"""Break: a sparse matrix is created, and then used.
https://github.com/pytorch/pytorch/issues/171865
"""

# finding: nothing-compiled

import torch

_ROWS, _COLS = torch.arange(4), torch.tensor([2, 0, 1])


def audited(x):
    matrix = torch.sparse_csr_tensor(_ROWS, _COLS, x, (3, 3))  # finding: graph-break GB0374|GB0007
    return matrix @ x  # finding: graph-break GB0015


example_inputs = torch.ones(3)
