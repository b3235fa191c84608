"""Measures variants of the kernels for rows in registers: `python -m benchmarks.cuda_tuning`.

Prints the time in milliseconds of each case with each value of one constant.
"""

from __future__ import annotations

from typing import Any

import torch
from triton.testing import do_bench

from benchmarks.cuda import BF16, F32
from benchmarks.paths import create
from dmask.contracts.spec import forget_plans
from dmask.kernels.triton import layout, topk

CASES = (
    ((1, 8, 8192, 8192), BF16, 2048),
    ((1, 8, 8192, 8192), F32, 2048),
    ((1, 2, 1024, 4096), F32, 1024),
    ((1, 1, 8192, 32768), BF16, 2048),
    ((8, 8, 1, 4096), BF16, 1024),
)
VARIANTS: dict[str, tuple[Any, ...]] = {
    "SCORES_PER_THREAD": (32, 64),
    "FEW_SCORES_PER_THREAD": (8, 16, 32),
    "MAX_ROWS_EACH": (4, 16, 64),
    "WARPS_PER_PROCESSOR": (16, 32, 64),
    "REGISTERS": (64, 80, 96, 112, 128, None),
    "MORE_REGISTERS": (96, 128, 160, None),
    "MOST_REGISTERS": (96, 128, 160, None),
}
"""What is tried for each constant of `dmask.kernels.triton.layout`, one after the other."""


def main() -> None:
    for shape, dtype, window in CASES:
        bias = torch.randn(shape, device="cuda").to(dtype)
        print(f"\n{list(shape)} {dtype} k {window}", flush=True)
        for name, values in VARIANTS.items():
            kept = getattr(layout, name)
            times = [_with(name, value, bias, window) for value in values]
            _set(name, kept)
            each = "  ".join(f"{v} {t:.4f}" for v, t in zip(values, times, strict=True))
            print(f"  {name:24}{each}", flush=True)


def _set(name: str, value: Any) -> None:
    setattr(layout, name, value)
    for remembered in (layout.tile_of, topk._prepared):
        remembered.cache_clear()
    forget_plans()


def _with(name: str, value: Any, bias: torch.Tensor, window: int) -> float:
    _set(name, value)
    return _time(bias, window)


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
