"""Recompile limit: blocks that are compiled one by one and read their own number.
https://github.com/pytorch/pytorch/pull/171598
"""

import torch


class Block(torch.nn.Module):
    def __init__(self, number):
        super().__init__()
        if torch.is_tensor(number):
            self.register_buffer("number", number)
        else:
            self.number = number
        self.compile(backend="aot_eager")

    def forward(self, x):
        return x * self.number  # finding: recompile-limit x8


def audited():
    return torch.nn.Sequential(*map(Block, range(12))), torch.ones(3)


# advice: make it a tensor, in a module with register_buffer
def fixed():
    return torch.nn.Sequential(*map(Block, torch.arange(12))), torch.ones(3)
