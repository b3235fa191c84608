"""How masks are computed. Kernels know tensors only: no shapes to bring together, no checks.

Every kernel takes scores or a bias whose last dimension is the keys, gives contiguous results and
changes no input. `reference` says in readable PyTorch what is right; the others are faster.
"""
