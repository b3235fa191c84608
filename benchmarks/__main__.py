"""Measures dmask: `python -m benchmarks [--only PART] [--op STEM] [--device cuda] [--json FILE]`.

Times are compared within one run: calls alternate, and a ratio is the median of at least seven
rounds. The times themselves depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import conversions, cost, decode, distributions, memory, ops, scaling

INPUTS = ops.Inputs()
ONLY_CUDA = ("cuda", "layouts", "sparse")
PARTS_OF_CUDA = ("cost", "ops", *ONLY_CUDA)
"""The parts that measure a GPU."""

Figures = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares dmask with equivalent code that does not use it.",
    )
    parser.add_argument("--only", choices=_PARTS, help="measure only one part (default: all)")
    parser.add_argument("--op", choices=ops.STEMS, help="measure only one op; implies --only ops")
    parser.add_argument("--device", default="cpu", help="the device to measure (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="plot the scaling or the cuda part to FILE (.svg or .png)",
    )
    options = parser.parse_args(argv)
    parts = _parts(parser, options)
    started = time.perf_counter()
    figures: Figures = {"torch": torch.__version__, "machine": machine(options.device)}
    for name in parts:
        figures[name] = _PARTS[name](options)
    print(f"\n{figures['machine']}\n{time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _parts(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """Returns the parts to measure."""
    if options.op and options.only not in (None, "ops"):
        parser.error("argument --op: requires --only ops")
    only = "ops" if options.op else options.only
    on_cuda = options.device.startswith("cuda")
    parts = PARTS_OF_CUDA if on_cuda else tuple(name for name in _PARTS if name not in ONLY_CUDA)
    if only and only not in parts:
        parser.error(f"argument --only: {only} cannot measure {options.device}")
    return [only] if only else list(parts)


def machine(device: str) -> str:
    """Returns a line that describes the versions and the machine, to print below a table."""
    used = [f"torch {torch.__version__}, Python {sys.version.split()[0]}"]
    if device.startswith("cuda"):
        used.append(torch.cuda.get_device_name(device))
    used.append(f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    return ", ".join(used)


def _processor() -> str:
    """Returns the name of the CPU, as reported by Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU"
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, "unknown CPU")


# ------------------------------------------------------------------ parts


def _cost(options: argparse.Namespace) -> Figures:
    print("create_mask and select, relative to the inlined path (floor: one pass over the scores)")
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


def _ops(options: argparse.Namespace) -> Figures:
    inputs = replace(INPUTS, device=options.device)
    shape = [inputs.batch, inputs.heads, inputs.query_len, inputs.key_len]
    print(f"\nEvery op against code without dmask: scores {shape}, window {inputs.window_size}")
    print(f"{'op':<13} {'case':<27} {'alternative':<26} {'faster':>7} {'dmask':>11} {'other':>11}")
    figures = {}
    for line in ops.measure([options.op] if options.op else ops.STEMS, inputs):
        case = line.case
        figures[f"{line.stem}, {case.name}"] = {
            "alternative": case.alternative,
            "ratio": line.dmask.ratio,
            "seconds": line.dmask.seconds,
            "other_seconds": line.inlined.seconds,
        }
        print(
            f"{line.stem:<13} {case.name:<27} {case.alternative:<26} {1 / line.dmask.ratio:>6.1f}x "
            f"{line.dmask.seconds * 1e3:>8.3f} ms {line.inlined.seconds * 1e3:>8.3f} ms",
            flush=True,
        )
    return figures


def _distributions(options: argparse.Namespace) -> Figures:
    shape, window_size = list(distributions.SHAPE), distributions.WINDOW_SIZE
    print(f"\nDistributions of scores {shape}, window {window_size}, relative to the inlined path:")
    print('time with tie_break="torch", speedup with tie_break="lowest"')
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


def _decode(options: argparse.Namespace) -> Figures:
    print(f"\nDecode steps: {decode.HEADS} heads, one query, keys that grow by one per call")
    print(f"{'keys':>5} {'call':<26} {'time':>9} {'/ inlined':>10} {'/ maybe_create_mask':>20}")
    figures = {}
    for line in decode.measure():
        figures[f"{line.name}, {line.keys} keys"] = line._asdict()
        print(
            f"{line.keys:>5} {line.name:<26} {line.seconds * 1e3:>6.3f} ms "
            f"{line.to_inlined:>10.2f} {line.to_mask:>20.2f}",
            flush=True,
        )
    return figures


def _conversions(options: argparse.Namespace) -> Figures:
    print(f"\nConversions: {conversions.HEADS} heads, window {conversions.WINDOW}, causal")
    print(f"{'conversion':<30} {'compared with':<28} {'ratio':>6} {'dmask':>10} {'other':>10}")
    figures = {}
    for line in conversions.measure():
        figures[line.name] = {"ratio": line.dmask.ratio, "seconds": line.dmask.seconds}
        print(
            f"{line.name:<30} {line.other:<28} {line.dmask.ratio:>6.2f} "
            f"{line.dmask.seconds * 1e3:>7.2f} ms {line.seconds * 1e3:>7.2f} ms",
            flush=True,
        )
    return figures


def _memory(options: argparse.Namespace) -> Figures:
    figures = memory.measure()
    print("\nPeak memory above the inputs: causal, bias per key [1, 2, 1, 16384], window 1024")
    for name, mebibytes in figures.items():
        print(f"  {name:<16} {mebibytes:>8.0f} MiB")
    return dict(figures)


def _scaling(options: argparse.Namespace) -> Figures:
    results = scaling.measure()
    print("\nTime relative to torch.topk + scatter: float32, a quarter of the keys kept")
    print(scaling.table(results))
    if options.plot and not scaling.plot(results, options.plot):
        print(f"{options.plot} was not written: matplotlib is not installed")
    return {
        str(keys): {name: timed._asdict() for name, timed in row.items()}
        for keys, row in results.items()
    }


def _import(options: argparse.Namespace) -> Figures:
    program = (
        "import time; start = time.perf_counter(); import torch; loaded = time.perf_counter();"
        "import dmask; print(loaded - start, time.perf_counter() - loaded)"
    )

    def run() -> list[float]:
        child = [sys.executable, "-c", program]
        output = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [float(seconds) for seconds in output.split()]

    without, extra = (median(seconds) for seconds in zip(*(run() for _ in range(11)), strict=True))
    print(f"\nimport torch takes {without:.2f} s; import dmask adds {extra * 1e3:.0f} ms")
    return {"extra_seconds": extra, "torch_seconds": without}


def _cuda(options: argparse.Namespace) -> Figures:
    from benchmarks import cuda

    print(f"\n{torch.cuda.get_device_name()}\n{cuda.HEADER}")
    figures: Figures = {"card": torch.cuda.get_device_name()}
    for name, line in cuda.measure():
        figures[name] = line
        print(cuda.line(name, line), flush=True)
    if options.plot and not cuda.plot(figures, options.plot):
        print(f"{options.plot} was not written: matplotlib is not installed")
    return figures


def _layouts(options: argparse.Namespace) -> Figures:
    from benchmarks import cuda_layouts

    figures: Figures = {}
    for name, line in cuda_layouts.measure():
        figures[name] = line
        print(cuda_layouts.line(name, line), flush=True)
    return figures


def _sparse(options: argparse.Namespace) -> Figures:
    from benchmarks import cuda_sparse

    figures: Figures = {}
    for name, line in cuda_sparse.measure():
        figures[name] = line
        print(cuda_sparse.line(name, line), flush=True)
    return figures


_PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "cost": _cost,
    "ops": _ops,
    "distributions": _distributions,
    "decode": _decode,
    "conversions": _conversions,
    "memory": _memory,
    "scaling": _scaling,
    "import": _import,
    "cuda": _cuda,
    "layouts": _layouts,
    "sparse": _sparse,
}


if __name__ == "__main__":
    sys.exit(main())
