"""CPU kernels: loops that Numba compiles, on all threads.

Numba takes longer to import than all of dmask, so the first large mask imports it.
"""
