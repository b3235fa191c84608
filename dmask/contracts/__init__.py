"""What each op promises: its schema, its checks, what it returns, and which kernels serve it.

One file per op or family of ops. Importing them loads neither Numba nor Triton.
"""
