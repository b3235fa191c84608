"""Recompile: the function adds a key to a dict that it is called with again.
https://github.com/pytorch/tensordict/issues/1606
"""

import torch


def audited(state):
    state["loss"] = state["seen"].square().mean()  # finding: recompile
    return state["loss"] * 2


def example_inputs(**more):
    state = {"seen": torch.ones(3), **more}
    return [(state,), (state,)]


# advice: the same keys
def fixed():
    return audited, example_inputs(loss=torch.zeros(()))
