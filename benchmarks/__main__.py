"""What masks cost: `python -m benchmarks [--device cuda] [--json FILE] [--plot FILE]`.

Everything is a ratio against the inlined path in the same run, interleaved, the median of at least
seven rounds; the times beside the ratios are of this machine at this moment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import cost, distributions, memory, scaling


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What masks cost, against the inlined path.")
    parser.add_argument("--device", default="cpu", help="where to measure (default: cpu)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plot", type=Path, help="draw time against keys there, .svg or .png")
    parser.add_argument("--only", choices=_PARTS, help="one part instead of all")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    figures: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    for name in [options.only] if options.only else _PARTS:
        if name in (_CUDA_PARTS if options.device.startswith("cuda") else _CPU_PARTS):
            figures[name] = _PARTS[name](options)
    print(
        f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{time.perf_counter() - started:.0f} s"
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _cost(options: argparse.Namespace) -> dict[str, Any]:
    print(f"{'case':<68} {'faster':>7} {'ratio':>6} {'floor':>6} {'dmask':>10} {'inlined':>10}")
    figures = {}
    for line in cost.measure(options.device):
        figures[line.name] = {
            "ratio": line.dmask.ratio,
            "floor": line.floor.ratio,
            "seconds": line.dmask.seconds,
            "inlined_seconds": line.inlined.seconds,
        }
        print(
            f"{line.name:<68} {1 / line.dmask.ratio:>6.1f}x {line.dmask.ratio:>6.3f} "
            f"{line.floor.ratio:>6.3f} {line.dmask.seconds * 1e6:>7.0f} us "
            f"{line.inlined.seconds * 1e6:>7.0f} us",
            flush=True,
        )
    return figures


def _distributions(options: argparse.Namespace) -> dict[str, Any]:
    shape, window_size = list(distributions.SHAPE), distributions.WINDOW_SIZE
    print(f"\nScores {shape}, k {window_size}: time over the inlined path's with")
    print('tie_break="torch", and speedup over it with "lowest"')
    print(f"{'distribution':<20} {'dtype':<9} {'torch':>6} {'lowest':>8} {'inlined':>10}")
    lines, figures = [], {}
    for line in distributions.measure():
        lines.append(line)
        dtype = str(line.dtype).removeprefix("torch.")
        figures[f"{line.distribution}, {dtype}"] = {
            "ratio": line.torch.ratio,
            "lowest_ratio": line.lowest.ratio,
            "inlined_seconds": line.inlined.seconds,
        }
        print(
            f"{line.distribution:<20} {dtype:<9} {line.torch.ratio:>6.2f} {line.speedup:>7.1f}x "
            f"{line.inlined.seconds * 1e3:>7.1f} ms",
            flush=True,
        )
    print(
        f"{'worst':<30} {max(line.torch.ratio for line in lines):>6.2f} "
        f"{min(line.speedup for line in lines):>7.1f}x"
    )
    print(f"{'geometric mean':<37} {distributions.mean_speedup(lines):>7.1f}x")
    return figures


def _memory(options: argparse.Namespace) -> dict[str, float]:
    figures = memory.measure()
    print("\nMiB above the inputs, causal, bias per key [1, 2, 1, 16384], k 1024")
    for name, mebibytes in figures.items():
        print(f"  {name:<16} {mebibytes:>8.0f}")
    return figures


def _scaling(options: argparse.Namespace) -> dict[str, Any]:
    results = scaling.measure()
    print("\nTime as a share of torch.topk + scatter, float32, a quarter of the keys kept")
    print(scaling.table(results))
    if options.plot and not scaling.plot(results, options.plot):
        print(f"{options.plot} was not drawn: matplotlib is not installed")
    return {
        str(keys): {name: timed._asdict() for name, timed in row.items()}
        for keys, row in results.items()
    }


def _import(options: argparse.Namespace) -> dict[str, float]:
    program = (
        "import time; start = time.perf_counter(); import torch; loaded = time.perf_counter();"
        "import dmask; print(loaded - start, time.perf_counter() - loaded)"
    )

    def run() -> list[float]:
        child = [sys.executable, "-c", program]
        output = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [float(seconds) for seconds in output.split()]

    without, extra = (median(seconds) for seconds in zip(*(run() for _ in range(11)), strict=True))
    print(f"\nimport dmask adds {extra * 1e3:.0f} ms to the {without:.2f} s of torch")
    return {"extra_seconds": extra, "torch_seconds": without}


def _cuda(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks import cuda

    print(f"\n{torch.cuda.get_device_name()}\n{cuda.HEADER}")
    figures: dict[str, Any] = {"card": torch.cuda.get_device_name()}
    for name, line in cuda.measure():
        figures[name] = line
        print(cuda.line(name, line), flush=True)
    return figures


_PARTS = {
    "cost": _cost,
    "distributions": _distributions,
    "memory": _memory,
    "scaling": _scaling,
    "import": _import,
    "cuda": _cuda,
}
_CUDA_PARTS = ("cost", "cuda")
_CPU_PARTS = tuple(name for name in _PARTS if name != "cuda")


if __name__ == "__main__":
    sys.exit(main())
