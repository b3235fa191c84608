"""Kernels for the CPU: loops that Numba compiles, on all threads.

Numba takes longer to import than all of dmask. It comes with the first large mask.
"""
