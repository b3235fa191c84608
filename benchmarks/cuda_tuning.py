"""Measures variants of the kernels for rows in registers: `python -m benchmarks.cuda_tuning`.

Prints the time in milliseconds of each case with each number of scores per thread, rows per
program, programs per multiprocessor, and registers per thread.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from triton.testing import do_bench

import dmask
from benchmarks.cuda import BF16, F32
from benchmarks.paths import create
from dmask.contracts.spec import forget_plans
from dmask.kernels.triton import layout

CASES = (
    ((1, 8, 8192, 8192), BF16, 2048),
    ((1, 8, 8192, 8192), F32, 2048),
    ((1, 2, 1024, 4096), F32, 1024),
    ((1, 1, 8192, 32768), BF16, 2048),
    ((8, 8, 1, 4096), BF16, 1024),
)
SCORES, ROWS, PROGRAMS, REGISTERS = (32, 64), (4, 16, 64), (16,), (None, 96, 128)


def main() -> None:
    for shape, dtype, window in CASES:
        bias = torch.randn(shape, device="cuda").to(dtype)
        print(f"\n{list(shape)} {dtype} k {window}: scores per thread, rows, registers", flush=True)
        results: list[tuple[float, str]] = []
        for scores, rows, programs, registers in itertools.product(
            SCORES, ROWS, PROGRAMS, REGISTERS
        ):
            if shape[2] == 1 and rows != ROWS[0]:
                continue
            layout.SCORES_PER_THREAD, layout.MAX_ROWS_EACH = scores, rows
            layout.PROGRAMS = programs
            layout.OPTIONS = {} if registers is None else {"maxnreg": registers}
            layout.tile_of.cache_clear()
            forget_plans()
            name = f"{scores:4} {rows:4} {registers}"
            results.append((_time(bias, window), name))
        for milliseconds, name in sorted(results):
            print(f"  {milliseconds:8.4f}  {name}", flush=True)
        layout.SCORES_PER_THREAD, layout.MAX_ROWS_EACH, layout.OPTIONS = 64, 16, {}
        layout.tile_of.cache_clear()
        select = _bench(lambda bias=bias, window=window: dmask.select(bias, window))
        indices = _bench(lambda bias=bias, window=window: dmask.topk_indices(bias, None, window))
        print(f"  select {select:.4f}, topk_indices {indices:.4f}", flush=True)


def _time(bias: torch.Tensor, window: int) -> float:
    return _bench(lambda: create(bias, None, window, "lowest"))


def _bench(call: Any) -> float:
    try:
        return float(do_bench(call, warmup=3, rep=15, return_mode="median"))
    except RuntimeError as error:
        print(f"  {str(error)[:300]}", flush=True)
        return float("nan")


if __name__ == "__main__":
    main()
