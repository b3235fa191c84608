"""Recompile: new mask functions with one code, which hold different numbers.
https://github.com/pytorch/pytorch/issues/172382
"""

import torch


def _window(size):
    def keep(query, key):
        return query - key < size  # finding: recompile

    return keep


def audited(scores, keep):
    index = torch.arange(scores.shape[0])
    return scores.masked_fill(~keep(index[:, None], index), 0.0)


def example_inputs():
    return [(torch.ones(4, 4), _window(size)) for size in (2, 3, 4)]


# advice: or one that holds a tensor instead of the number
def fixed():
    return audited, [(torch.ones(4, 4), _window(torch.tensor(size))) for size in (2, 3, 4)]
