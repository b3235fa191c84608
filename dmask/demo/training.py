"""Trains, evaluates and samples the model."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from typing import TextIO

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from dmask.demo.text import ordered_batches, random_batch

LEARNING_RATE = 3e-3
WARM_UP = 0.1
"""The fraction of steps in which the learning rate rises. It falls in the remaining steps."""
TEMPERATURE = 0.8


def cxx_compiler() -> str | None:
    """Returns the C++ compiler that Inductor uses for CPU code, or `None` if it is missing."""
    default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", default))


def bits_per_byte(model: nn.Module, tokens: Tensor) -> Tensor:
    """Returns the mean loss over `[B, L + 1]` bytes, where each byte predicts the next one."""
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / math.log(2)


def evaluate(
    model: nn.Module, text: Tensor, batch_size: int, context: int, device: torch.device
) -> float:
    """Returns the mean loss over a text.

    Runs with gradients, because `no_grad` would need a second graph, which takes longer to compile
    than it saves.
    """
    batches = ordered_batches(text, batch_size, context).to(device)
    return sum(bits_per_byte(model, batch).item() for batch in batches) / len(batches)


def train(
    model: nn.Module,
    text: Tensor,
    batch_size: int,
    context: int,
    device: torch.device,
    *,
    steps: int,
    seed: int,
) -> None:
    """Trains a model in place, on batches that depend only on `seed`."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    progress = Progress(steps)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps)
        batch = random_batch(text, batch_size, context, generator).to(device)
        loss = bits_per_byte(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress.show(step + 1, loss)


def learning_rate(step: int, steps: int) -> float:
    """Returns a rate that rises linearly from 0, then falls linearly to 0."""
    rising = (step + 1) / (WARM_UP * steps)
    falling = (steps - step) / ((1 - WARM_UP) * steps)
    return LEARNING_RATE * min(rising, falling, 1.0)


@torch.no_grad()
def sample(model: nn.Module, prompt: Tensor, count: int, context: int, seed: int) -> bytes:
    """Continues a prompt, int64 `[L]`, by `count` bytes.

    Call this in eager mode, because every length is a new shape.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = prompt
    for _ in range(count):
        logits = model(tokens[None, -context:])[0, -1].cpu()
        byte = torch.multinomial((logits / TEMPERATURE).softmax(-1), 1, generator=generator)
        tokens = torch.cat((tokens, byte.to(tokens.device)))
    return bytes(tokens[len(prompt) :].tolist())


class Progress:
    """Shows the progress of training: a bar in a terminal, a line per tenth elsewhere.

    Writes to stderr, because it shows seconds and stdout should be the same for every run.
    """

    def __init__(self, steps: int, stream: TextIO | None = None) -> None:
        self.steps = steps
        self.stream = sys.stderr if stream is None else stream
        self.start = time.monotonic()

    def show(self, done: int, loss: Tensor) -> None:
        """Shows the number of completed steps. Reads the loss only if it is shown."""
        tenths = 10 * done // self.steps
        if self.stream.isatty():
            start, end = "\r", "\n" if done == self.steps else ""
        elif tenths > 10 * (done - 1) // self.steps:
            start, end = "", "\n"
        else:
            return
        bar = "#" * (2 * tenths) + "." * (20 - 2 * tenths)
        seconds = time.monotonic() - self.start
        line = f"[{bar}] step {done}/{self.steps}  {loss.item():.3f} bits/byte  {seconds:.0f} s"
        print(f"{start}{line}", end=end, file=self.stream, flush=True)
