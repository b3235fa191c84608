"""How masks are computed: tensors in, tensors out.

Kernels do not check their arguments or bring shapes together. Each takes scores or a bias whose
last dimension is the keys, returns contiguous results and changes no input. A kernel has the same
name in the same file of every folder that has it. `reference` is the reference implementation; the
others are faster, and never import each other.
"""
