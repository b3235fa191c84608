"""Recompile: a dict of options has a key in some calls only.
https://github.com/xdit-project/xDiT/pull/781
"""

import torch


def audited(x, options):
    lengths = options.get("lengths")  # finding: recompile
    return x.cumsum(0) if lengths is None else x * lengths


def example_inputs():
    return [(torch.ones(3), {}), (torch.ones(3), {"lengths": torch.ones(3)})]


# advice: keep options the same in every call
def fixed():
    return audited, [(x, {"lengths": torch.ones(3), **options}) for x, options in example_inputs()]
