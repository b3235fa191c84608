"""What a mask costs against the path that integrations inline, in the same run.

Run `python -m benchmarks.mask [--device cuda] [--json FILE]`. Each line is a ratio, below 1 is
faster; the times beside it are of this machine at this moment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import dmask
from benchmarks.timing import Comparison, compare

Make = Callable[[Tensor, Tensor | None], Tensor]


def inlined(bias: Tensor, mask: Tensor | None, window_size: int) -> Tensor:
    """The top-k and scatter of the integrations."""
    floor = torch.finfo(bias.dtype).min
    if mask is not None:
        bias = bias.masked_fill(~mask, floor)
    values, indices = torch.topk(bias, window_size, dim=-1, largest=True, sorted=False)
    return torch.zeros_like(bias, dtype=torch.bool).scatter_(-1, indices, values != floor)


def create(bias: Tensor, mask: Tensor | None, window_size: int) -> Tensor:
    batch, _, queries, keys = bias.shape
    return dmask.create_mask(bias, mask, batch, queries, keys, window_size)


CASES = {
    "prompt [1, 2, 1024, 4096], k = 1024": ((1, 2, 1024, 4096), 1024),
    "decode [1, 2, 1, 256], k = 64": ((1, 2, 1, 256), 64),
}


def measure(device: str) -> Iterator[tuple[str, Comparison]]:
    """Every line of the table: its name and how it compares."""
    generator = torch.Generator().manual_seed(0)
    for name, (shape, window_size) in CASES.items():
        bias = torch.randn(shape, generator=generator).to(device)
        mask = (torch.rand(shape, generator=generator) > 0.1).to(device)
        for mask_name, allowed in (("no mask", None), ("mask", mask)):
            for mode in ("eager", "compiled"):
                new, old = (_call(fn, mode, bias, allowed, window_size) for fn in (create, inlined))
                assert torch.equal(new(), old())
                yield f"{name}, {mask_name}, {mode}", compare(new, old)


def _call(
    fn: Callable[[Tensor, Tensor | None, int], Tensor],
    mode: str,
    bias: Tensor,
    mask: Tensor | None,
    window_size: int,
) -> Callable[[], Tensor]:
    if mode == "compiled":
        fn = torch.compile(fn, fullgraph=True, dynamic=False)
    if bias.device.type == "cpu":
        return lambda: fn(bias, mask, window_size)

    def finished() -> Tensor:
        kept = fn(bias, mask, window_size)
        torch.accelerator.synchronize()
        return kept

    return finished


def import_seconds(rounds: int = 9) -> Comparison:
    """What `import dmask` adds to `import torch`, in fresh processes."""

    def run(program: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", program], check=True)

    return compare(run("import torch, dmask"), run("import torch"), rounds=rounds, block_seconds=0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a mask costs against the inlined path.")
    parser.add_argument("--device", default="cpu", help="where to measure (default: cpu)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    figures = {}
    print(f"{'case':<54} {'ratio':>6} {'dmask':>10} {'inlined':>10}")
    for name, result in measure(options.device):
        figures[name] = result._asdict()
        print(
            f"{name:<54} {result.ratio:>6.2f} {result.seconds * 1e6:>7.0f} us "
            f"{result.baseline_seconds * 1e6:>7.0f} us"
        )
    imports = import_seconds()
    extra = imports.seconds - imports.baseline_seconds
    figures["import"] = imports._asdict()
    print(
        f"\nimport dmask adds {extra * 1e3:.0f} ms to the {imports.baseline_seconds:.2f} s of torch"
    )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{time.perf_counter() - started:.0f} s"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
