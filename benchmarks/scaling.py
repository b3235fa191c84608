"""Measures how time grows with the number of keys, for dmask and alternatives."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmarks import paths
from benchmarks.timing import Timed, compare
from tests.support.inlined import inlined_path

KEY_LENS = (256, 1024, 4096, 16384, 65536, 131072)
SCORES = 2**20
"""The number of scores per measurement: with longer rows there are fewer of them."""


def methods() -> dict[str, paths.Make]:
    found: dict[str, paths.Make] = {
        "torch.topk + scatter": inlined_path,
        "the same, torch.compile": paths.compiled(inlined_path),
        "dmask": paths.create,
        "dmask, lowest": lambda bias, mask, k: paths.create(bias, mask, k, "lowest"),
        "numpy.argpartition": paths.numpy_argpartition,
        "one compare pass": paths.compare_only,
    }
    jax = paths.jax_top_k()
    if jax is not None:
        found["jax.lax.top_k"] = jax
    return found


def measure() -> dict[int, dict[str, Timed]]:
    """Times every method for each number of keys: float32 scores, a quarter of the keys kept."""
    results = {}
    for key_len in KEY_LENS:
        torch.compiler.reset()  # compile each shape separately
        shape = (1, 2, max(1, SCORES // (2 * key_len)), key_len)
        bias = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        calls = {name: partial(make, bias, None, key_len // 4) for name, make in methods().items()}
        results[key_len] = compare(calls, "torch.topk + scatter", rounds=11)
    return results


def table(results: dict[int, dict[str, Timed]]) -> str:
    """Returns a table of the times relative to the inlined path."""
    names = list(next(iter(results.values())))
    lines = [f"{'keys per row':<26}" + "".join(f"{key_len:>9}" for key_len in results)]
    lines += [
        f"{name:<26}" + "".join(f"{results[n][name].ratio:>9.2f}" for n in results)
        for name in names
    ]
    return "\n".join(lines)


def plot(results: dict[int, dict[str, Timed]], file: Path) -> bool:
    """Draws the results. Returns False if matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "dmask"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name in next(iter(results.values())):
        style = {"linewidth": 2.5} if name.startswith("dmask") else {"linestyle": "--"}
        seconds = [results[n][name].seconds / SCORES * 1e9 for n in results]
        axes.plot(list(results), seconds, marker="o", markersize=4, label=name, **style)  # type: ignore[arg-type]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("keys per row, a quarter of them kept")
    axes.set_ylabel("ns per score (float32)")
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
    return True
