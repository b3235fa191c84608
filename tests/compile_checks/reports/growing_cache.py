"""Recompile: a cache is empty in the first call, then grows.
https://github.com/huggingface/transformers/issues/37908
"""

import torch


class Cache:
    def __init__(self, *keys):
        self.keys = [*keys]

    def update(self, key):
        self.keys = [torch.cat([*self.keys, key])]  # finding: recompile
        return self.keys[0]


def audited(x, cache):  # finding: recompile
    return x + cache.update(x).mean(0)


def example_inputs(*keys):
    cache = Cache(*keys)
    return [(torch.ones(2, 3), cache) for _ in range(4)]


# advice: keep cache.keys at one length
# advice: mark_dynamic(cache.keys[0], 0)
def fixed():
    def inputs():
        key = torch.zeros(2, 3)
        torch._dynamo.mark_dynamic(key, 0)
        return example_inputs(key)

    return audited, inputs
