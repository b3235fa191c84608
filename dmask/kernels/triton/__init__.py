"""Triton kernels for CUDA: find each row's threshold by counting, then compare scores with it.

As on the CPU, a kernel finds a threshold by counting how many scores reach a trial value. Programs
of a launch never wait for each other: a barrier deadlocks if they cannot all run at once.

- Files named after a contract hold the functions that the contract calls.
- `layout` computes the sizes, strides and tiles that kernels take; `launches` launches kernels.
- `codes`, `search` and `histogram` find a threshold in registers; `rows` loads, scans and writes a
  row, and `pairs` does so with two 16-bit scores in each register. `instructions` are those that
  Triton's language lacks.
- `best_keys` and `bounds` are the kernels for rows that fit in registers: masks and indices, and
  the bounds of a selection. `budgets` and `masses` compute how many keys a row keeps, if that
  depends on its scores.
- `long_rows` cuts longer rows into `splits`, which read what `sampling` found out about a row.
  `settle` combines their results, and `split_writes` writes them. `visible` handles long rows with
  restrictions, one program per row. `passes` is the search of both over whole rows.
- `prefixes` follows a causal selection of a bias per key from query to query, using `ranks`.
- `kept` turns bounds into masks, indices and counts per block; `listed` lists the blocks.
- `pooled` and `named` are the kernels of `block_topk` and `mask_from_indices`. `tiles` loads tiles
  of several rows for `relu` and `block_topk`.
"""
