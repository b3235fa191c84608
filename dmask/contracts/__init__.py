"""The contract of each op: its schema, its checks, its results and its kernels.

One file per op or family of ops. Importing them loads neither Numba nor Triton.
"""
