"""Compares the CUDA kernels with the inlined path.

Run `python -m benchmarks --device cuda --only cuda`.

Times are medians of `triton.testing.do_bench`, which empties the L2 cache before each call, in
milliseconds. Columns with `+` are times in a CUDA graph of one call, repeated: without the host,
and with a warm L2 cache. If FlashInfer is installed, its `top_k` with dmask's tie rule is measured
too. Each case is also checked bit for bit: masks against the inlined path, selections and indices
against the mask, causal selections against the CPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import dmask
from benchmarks.distributions import DISTRIBUTIONS, scores_of
from benchmarks.paths import causal, create
from tests.support.inlined import inlined_path as inlined


class Case(NamedTuple):
    """Scores `[B, H, Lq, Lk]` and a window, the speedup required and the speedup aimed at."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    window_size: int
    at_least: float
    aim: float
    masked: bool = False

    @property
    def name(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.").replace("float", "fp").replace("bfp", "bf")
        mask = ", causal mask" if self.masked else ""
        return f"{dtype} {list(self.shape)} k {self.window_size}{mask}"


F32, BF16 = torch.float32, torch.bfloat16
ROUNDS = 5
CASES = (
    Case((1, 8, 8192, 8192), BF16, 2048, 4.5, 8),
    Case((1, 8, 8192, 8192), F32, 2048, 6, 9),
    Case((1, 2, 1024, 4096), F32, 1024, 5, 8),
    Case((1, 1, 8192, 32768), BF16, 2048, 3, 6),
    Case((1, 1, 4096, 131072), F32, 2048, 3, 5),
    Case((64, 1, 1, 65536), F32, 2048, 3, 6),
    Case((1, 2, 1, 524288), F32, 2048, 3, 6),
    Case((8, 8, 1, 4096), BF16, 1024, 2.5, 4),
    Case((1, 8, 1, 512), F32, 64, 1, 2),
    Case((1, 2, 2048, 2048), F32, 512, 5, 8, masked=True),
)


def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and figures of each line of the table."""
    for case in CASES:
        yield case.name, _case(case)
        torch.cuda.empty_cache()
    yield "causal, bias per key", _prefixes()
    for name in DISTRIBUTIONS:
        for dtype in (F32, BF16):
            yield f"{name}, {dtype}", _distribution(name, dtype)


def _case(case: Case) -> dict[str, Any]:
    generator = torch.Generator("cuda").manual_seed(0)
    bias = torch.randn(case.shape, generator=generator, device="cuda").to(case.dtype)
    mask = causal(*case.shape[2:]).cuda() if case.masked else None
    keys, window = case.shape[3], case.window_size
    calls: dict[str, Callable[[], Any]] = {
        "bias > t": partial(torch.gt, bias, 0.5),
        "inlined": partial(inlined, bias, mask, window),
        "torch": partial(create, bias, mask, window, "torch"),
        "lowest": partial(create, bias, mask, window, "lowest"),
        "select": partial(dmask.select, bias, window, attention_mask=mask),
        "topk": partial(torch.topk, bias, window, sorted=False),
        "topk_indices": partial(dmask.topk_indices, bias, mask, window),
    }
    peer = _flashinfer(bias, window) if mask is None else None
    if peer is not None:
        calls["flashinfer"] = peer
    figures: dict[str, Any] = _times(calls)
    # The lower limit of any mask: read each score and write each flag once.
    figures["copy"] = bias.numel() * (bias.element_size() + 1) / _bytes_per_ms()
    figures["speedup"] = figures["inlined"] / figures["lowest"]
    figures["indices speedup"] = figures["topk"] / figures["topk_indices"]
    figures["at least"], figures["aim"] = case.at_least, case.aim
    for name in ("lowest", "select", "topk_indices"):
        figures[f"{name}+"] = in_a_graph(calls[name])
    wanted = inlined(bias, mask, window)
    found = create(bias, mask, window, "lowest")
    # False if torch.topk does not break ties by the lowest index.
    figures["equal to inlined"] = bool(torch.equal(found, wanted))
    selected = dmask.select(bias, window, attention_mask=mask).to_mask()
    indices = dmask.topk_indices(bias, mask, window)
    figures["equal to select"] = bool(torch.equal(found, selected))
    del wanted, selected
    figures["equal to indices"] = bool(
        torch.equal(found, dmask.mask_from_indices(indices, key_len=keys))
    )
    figures["equal to the CPU"] = _first_rows_equal_the_cpu(bias, mask, window, found)
    return figures


@lru_cache(maxsize=1)
def _bytes_per_ms() -> float:
    """Returns how many bytes a copy on the device reads and writes per millisecond."""
    from triton.testing import do_bench

    source = torch.empty(2**30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / float(do_bench(lambda: target.copy_(source), return_mode="median"))


def _first_rows_equal_the_cpu(
    bias: Tensor, mask: Tensor | None, window: int, found: Tensor
) -> bool:
    few = bias[:2, :1, :8].cpu()
    mask = None if mask is None else mask[:, :, :8].cpu()
    return bool(torch.equal(create(few, mask, window, "lowest"), found[:2, :1, :8].cpu()))


def _prefixes() -> dict[str, Any]:
    queries, window = 16384, 1024
    generator = torch.Generator().manual_seed(0)
    here = torch.randn((1, 2, 1, queries), generator=generator)
    bias = here.cuda()
    select = partial(dmask.select, window_size=window, is_causal=True, query_len=queries)
    dense = bias.expand(1, 2, queries, queries).masked_fill(
        ~causal(queries, queries).cuda(), torch.finfo(bias.dtype).min
    )
    calls: dict[str, Callable[[], Any]] = {
        "inlined": partial(inlined, dense, None, window),
        "select": partial(select, bias),
    }
    figures: dict[str, Any] = _times(calls)
    figures["speedup"] = figures["inlined"] / figures["select"]
    figures["at least"], figures["aim"] = 25.0, 80.0
    found, wanted = select(bias), select(here)
    figures["equal to the CPU"] = bool(
        torch.equal(found.threshold.cpu(), wanted.threshold)
        and torch.equal(found.cutoff.cpu(), wanted.cutoff)
    )
    return figures


def _distribution(name: str, dtype: torch.dtype) -> dict[str, Any]:
    here = scores_of(name, (1, 2, 512, 4096), dtype)
    bias = here.cuda()
    calls = {
        "inlined": partial(inlined, bias, None, 1024),
        "lowest": partial(create, bias, None, 1024, "lowest"),
        "topk_indices": partial(dmask.topk_indices, bias, None, 1024),
    }
    figures: dict[str, Any] = _times(calls)
    figures["speedup"] = figures["inlined"] / figures["lowest"]
    wanted = create(here, None, 1024, "lowest")
    figures["equal to the CPU"] = bool(torch.equal(calls["lowest"]().cpu(), wanted))
    return figures


def _times(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Returns medians of rounds, so that a host that pauses now and then does not show."""
    from triton.testing import do_bench

    def median(name: str, call: Callable[[], Any]) -> float:
        try:
            return float(do_bench(call, warmup=3, rep=10, return_mode="median"))
        except Exception as error:  # a failing kernel must not hide all other figures
            print(f"  {name}: {type(error).__name__}: {str(error)[:400]}", flush=True)
            return float("nan")

    rounds = [{name: median(name, call) for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: statistics.median([times[name] for times in rounds]) for name in calls}


def in_a_graph(call: Callable[[], Any]) -> float:
    from triton.testing import do_bench_cudagraph

    return float(do_bench_cudagraph(call, rep=20, return_mode="median"))


def _flashinfer(bias: Tensor, window_size: int) -> Callable[[], Any] | None:
    """Returns a call of FlashInfer's selection with dmask's tie rule, if it is installed."""
    try:
        from flashinfer import top_k
    except ImportError:
        return None
    rows = bias.reshape(-1, bias.shape[3])
    return partial(top_k, rows, window_size, deterministic=True, tie_break=1)


def plot(figures: dict[str, Any], file: Path) -> bool:
    """Plots the speedups of the cases over the inlined path, and those that the copy limit allows.

    Returns:
        False if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    cases = {
        name: line for name, line in figures.items() if isinstance(line, dict) and "copy" in line
    }
    bars = {
        "dmask": [line["speedup"] for line in cases.values()],
        "dmask in a CUDA graph": [line["inlined"] / line["lowest+"] for line in cases.values()],
        "copy limit": [line["inlined"] / line["copy"] for line in cases.values()],
    }
    canvas, axes = pyplot.subplots(figsize=(8, 0.6 * len(cases) + 1), layout="constrained")
    for number, (name, widths) in enumerate(bars.items()):
        places = [place + 0.27 * number for place in range(len(cases))]
        axes.barh(places, widths, height=0.25, label=name)
    axes.set_yticks([place + 0.27 for place in range(len(cases))], list(cases))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"speedup over the inlined path, {figures['card']}")
    axes.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(file)
    pyplot.close(canvas)
    return True


def line(name: str, figures: dict[str, Any]) -> str:
    """Returns a line of the printed table."""
    columns = [f"{figures[key]:8.4f}" if key in figures else " " * 8 for key in COLUMNS]
    bars = f" (bar {figures['at least']:g}, aim {figures['aim']:g})" if "aim" in figures else ""
    wrong = [key for key, value in figures.items() if value is False]
    return (
        f"{name:<44} {' '.join(columns)} {figures.get('speedup', float('nan')):6.1f}x{bars}"
        f"{' NOT ' + ', NOT '.join(wrong) if wrong else ''}"
    )


COLUMNS = {
    "copy": "copy",
    "bias > t": "bias > t",
    "inlined": "inlined",
    "torch": "torch",
    "lowest": "lowest",
    "lowest+": "lowest+",
    "select": "select",
    "select+": "select+",
    "topk": "topk",
    "flashinfer": "flashinf",
    "topk_indices": "indices",
    "topk_indices+": "indices+",
}
HEADER = f"{'ms':<44} {' '.join(f'{title:>8}' for title in COLUMNS.values())} speedup"
