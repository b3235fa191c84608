"""Measures the peak memory of a call beyond its inputs, in a fresh process (Linux only)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import torch, dmask
from benchmarks.memory import high_water
from benchmarks.paths import causal
from tests.support.inlined import inlined_path

query_len, window_size = {query_len}, {window_size}
bias = torch.randn(1, 2, 1, query_len)
# The first call loads libraries, which should not count.
dmask.select(bias[..., :300], 8, is_causal=True, query_len=300)
inlined_path(bias[..., :300], None, 8)
{inputs}
before = high_water()
{call}
print(high_water() - before)
"""
_CALLS = {
    "dmask.select": (
        "",
        "dmask.select(bias, window_size, is_causal=True, query_len=query_len)",
    ),
    "inlined, dense": (
        "mask = causal(query_len, query_len)",
        "inlined_path(bias.expand(1, 2, query_len, query_len), mask, window_size)",
    ),
}


def high_water() -> float:
    """Returns the peak memory of this process in MiB."""
    # getrusage() is not usable: in a child process it starts from the memory of the parent.
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measure(query_len: int = 16384, window_size: int = 1024) -> dict[str, float]:
    """Returns the MiB used by a causal selection with a bias per key `[1, 2, 1, query_len]`."""
    found = {}
    for name, (inputs, call) in _CALLS.items():
        program = _PROGRAM.format(
            query_len=query_len, window_size=window_size, inputs=inputs, call=call
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = float(done.stdout)
    return found
