"""Measures how much time an audit adds to a compilation.

Run it with `python -m compile_checks.overhead`.

Both sides compile, call twice, and reset the compiler before and after. The audit compares nothing
and checks no gates. The two sides alternate, so that a busy machine slows both. The result is the
median of many rounds. After the warm-up, Inductor finds its kernels in its cache. Its compilation
is then as short as possible, and the relative overhead as large as possible.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import torch

from compile_checks._engine.audit import audit
from compile_checks.command.arguments import positive

BACKENDS: Final = ("eager", "aot_eager", "inductor")
_WARM_UP = 3


def tiny(x: torch.Tensor) -> torch.Tensor:
    """Runs three operations."""
    return x.sin() * 2 + 1


def _layer() -> torch.nn.Module:
    return torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()


def compile_and_call(fn: Callable[..., Any], x: torch.Tensor, backend: str) -> None:
    """Compiles and calls `fn` as an audit does, without the audit."""
    torch.compiler.reset()
    compiled = torch.compile(fn, backend=backend)
    compiled(x)
    compiled(x)
    torch.compiler.reset()


def measure(
    fn: Callable[..., Any], x: torch.Tensor, backend: str, rounds: int
) -> tuple[float, float]:
    """Returns the median time in seconds, first without the audit, then with it."""
    plain: list[float] = []
    audited: list[float] = []
    sides: list[tuple[Callable[[], object], list[float]]] = [
        (lambda: compile_and_call(fn, x, backend), plain),
        (lambda: audit(fn, (x,), backend=backend, compare=False, gates=()), audited),
    ]
    for _ in range(_WARM_UP + rounds):
        for run, seconds in sides:
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        sides.reverse()  # the second side may find warmer caches
    return median(plain[_WARM_UP:]), median(audited[_WARM_UP:])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a row for each function and backend."""
    parser = ArgumentParser(prog="python -m compile_checks.overhead", allow_abbrev=False)
    parser.add_argument("--rounds", type=positive, default=50, metavar="N")
    rounds = parser.parse_args(argv).rounds
    print(f"torch {torch.__version__}, median of {rounds} rounds")
    print(f"{'':25}{'backend':12}{'plain ms':>10}{'audited ms':>12}{'overhead %':>12}")
    for name, fn, x in (
        ("three operations", tiny, torch.ones(8)),
        ("TransformerEncoderLayer", _layer(), torch.ones(2, 4, 16)),
    ):
        for backend in BACKENDS:
            plain, audited = measure(fn, x, backend, rounds)
            share = 100 * (audited / plain - 1)
            print(f"{name:25}{backend:12}{1e3 * plain:10.1f}{1e3 * audited:12.1f}{share:12.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
