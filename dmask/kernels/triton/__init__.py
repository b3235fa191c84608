"""Triton kernels for CUDA: thresholds by counting, and one compare with them for the mask.

A row's threshold is found by counting how many of its scores reach a number, as on the CPU. Rows
that fit in registers are loaded once (`rows`). Longer rows are cut into splits (`long_rows`), which
no program of the same launch waits for: a barrier between programs deadlocks under pressure.
"""
