"""Measures how much CPU time an audit adds to a compilation.

Run it with `python -m compile_checks.overhead`.

Both sides compile, call twice, and reset the compiler before and after. The audit checks no gates.
The last column is for an audit that also compares with eager mode. The sides alternate, so that a
busy machine slows all. The result is the median of many rounds. After the warm-up, Inductor finds
its kernels in its cache. Its compilation is then as short as possible, and the relative overhead as
large as possible.
"""

from __future__ import annotations

import gc
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import torch
from torch import nn

from compile_checks._engine.audit import audit
from compile_checks.command.arguments import positive

BACKENDS: Final = ("eager", "aot_eager", "inductor")
_WARM_UP = 3


def tiny(x: torch.Tensor) -> torch.Tensor:
    """Runs three operations."""
    return x.sin() * 2 + 1


def _layers(count: int) -> nn.Module:
    layers = (nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(count))
    return nn.Sequential(*layers)


def _encoder(count: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, count, enable_nested_tensor=False).eval()


def _convolutions() -> nn.Module:
    blocks = (
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(6)
    )
    return nn.Sequential(nn.Conv2d(3, 8, 3), *blocks).eval()


def models() -> dict[str, tuple[Callable[..., Any], torch.Tensor]]:
    """Returns the functions to compile, each with its input."""
    return {
        "three operations": (tiny, torch.ones(8)),
        "20 linear layers": (_layers(20), torch.ones(2, 16)),
        "6 convolutions": (_convolutions(), torch.ones(1, 3, 16, 16)),
        "1 transformer layer": (_encoder(1), torch.ones(2, 4, 16)),
        "4 transformer layers": (_encoder(4), torch.ones(2, 4, 16)),
    }


def compile_and_call(fn: Callable[..., Any], x: torch.Tensor, backend: str) -> None:
    """Compiles and calls `fn` as an audit does, without the audit."""
    torch.compiler.reset()
    compiled = torch.compile(fn, backend=backend)
    compiled(x)
    compiled(x)
    torch.compiler.reset()


def measure(fn: Callable[..., Any], x: torch.Tensor, backend: str, rounds: int) -> list[float]:
    """Returns the median CPU time in seconds: without an audit, with it, and comparing too."""
    sides: list[Callable[[], object]] = [
        lambda: compile_and_call(fn, x, backend),
        lambda: audit(fn, (x,), backend=backend, compare=False, gates=()),
        lambda: audit(fn, (x,), backend=backend, gates=()),
    ]
    seconds: list[list[float]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for _ in range(_WARM_UP + rounds):
        for side in order:
            gc.collect()  # so that no side has to collect the garbage of another
            began = time.process_time()
            sides[side]()
            seconds[side].append(time.process_time() - began)
        order.reverse()  # later sides may find warmer caches
    return [median(of_side[_WARM_UP:]) for of_side in seconds]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a row for each function and backend."""
    parser = ArgumentParser(prog="python -m compile_checks.overhead", allow_abbrev=False)
    parser.add_argument("--rounds", type=positive, default=20, metavar="N")
    parser.add_argument("--model", choices=models(), help="measure only this one")
    arguments = parser.parse_args(argv)
    rounds = arguments.rounds
    print(f"torch {torch.__version__}, CPU time, median of {rounds} rounds")
    columns = f"{'plain ms':>10}{'audited ms':>12}{'overhead %':>12}{'comparing %':>13}"
    print(f"{'':22}{'backend':12}{columns}")
    chosen = {arguments.model: models()[arguments.model]} if arguments.model else models()
    for name, (fn, x) in chosen.items():
        for backend in BACKENDS:
            plain, audited, compared = measure(fn, x, backend, rounds)
            shares = [100 * (side / plain - 1) for side in (audited, compared)]
            times = f"{1e3 * plain:10.1f}{1e3 * audited:12.1f}"
            print(f"{name:22}{backend:12}{times}{shares[0]:12.1f}{shares[1]:13.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
