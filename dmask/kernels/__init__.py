"""Kernels that compute masks: tensors in, tensors out.

Kernels do not check their arguments or broadcast shapes. Each takes scores or a bias whose last
dimension is the keys, returns contiguous results and does not modify its inputs. A kernel has the
same name and file in every folder that implements it. `reference` is the reference implementation.
The others are faster, and never import each other.
"""
