"""Triton kernels for CUDA: thresholds by counting, and one compare with them for the mask.

A row's threshold is found by counting how many of its scores reach a number, as on the CPU. A
program of a launch never waits for another: a barrier between programs deadlocks under pressure.

- Files that share the stem of a contract hold what the contract calls.
- `layout` describes tensors and tiles to a kernel, `launches` launches it.
- `codes` and `search` find a threshold in registers; `rows` loads, scans and writes a row.
- `best_keys` and `bounds` are the kernels for rows that fit in registers: masks and indices, and
  the bounds of a selection. `budgets` and `masses` compute how many keys a row keeps, where that
  depends on its scores.
- `long_rows` cuts longer rows into `splits` and lets `settle` bring these together. `visible`
  passes over the part of a long row that it sees; `passes` holds that loop.
- `prefixes` follows a causal selection from query to query, with the `ranks` of keys.
- `kept` reads what a selection keeps.
- `tiles`, `pooled` and `named` are the kernels of single strategies and ops.
"""
