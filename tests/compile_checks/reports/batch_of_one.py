"""Recompile: a batch of one after a larger one.
https://github.com/vllm-project/vllm/pull/38933
"""

import torch


def audited(logits, chosen):  # finding: recompile
    return (logits >= logits.gather(-1, chosen)).sum(-1)


def example_inputs():
    return [(torch.ones(n, 5), torch.zeros(n, 1, dtype=torch.long)) for n in (4, 1)]


# advice: mark_unbacked(chosen, 0), and so for each tensor that has this size
def fixed():
    calls = example_inputs()
    for tensors in calls:
        for tensor in tensors:
            torch._dynamo.decorators.mark_unbacked(tensor, 0)
    return audited, calls
