"""Real English text without a download: the reference that CPython ships for `help()`."""

from __future__ import annotations

from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from torch import Tensor

HELD_OUT = 0.1
"""The share of the text that no training step sees."""


class Corpus(NamedTuple):
    """The bytes of a text, uint8 `[length]`, cut in two."""

    train: Tensor
    held_out: Tensor


def python_reference() -> Corpus:
    """Python's language reference, its end held out.

    Topics repeat whole sections of each other. Each paragraph is taken once, where it comes first,
    so that held-out text was not trained on.
    """
    paragraphs = dict.fromkeys(
        paragraph.strip("\n") for topic in topics.values() for paragraph in topic.split("\n\n")
    )
    text = torch.tensor(list("\n\n".join(paragraphs).encode()), dtype=torch.uint8)
    end = len(text) - int(HELD_OUT * len(text))
    return Corpus(text[:end], text[end:])


def unigram_entropy(text: Tensor) -> float:
    """Bits per byte: the least loss of a model that knows how often bytes occur and no more.

    >>> unigram_entropy(torch.tensor([0, 0, 1, 2], dtype=torch.uint8))
    1.5
    """
    counts = text.long().bincount().double()
    shares = counts[counts > 0] / len(text)
    return float(-(shares * shares.log2()).sum())


def random_batch(text: Tensor, batch_size: int, context: int, generator: torch.Generator) -> Tensor:
    """Sequences from anywhere in the text, int64 `[batch_size, context + 1]`.

    One byte more than the context: each byte has to predict its successor.
    """
    starts = torch.randint(len(text) - context, (batch_size, 1), generator=generator)
    return text[starts + torch.arange(context + 1)].long()


def ordered_batches(text: Tensor, batch_size: int, context: int) -> Tensor:
    """The text from its start on, int64 `[batches, batch_size, context + 1]`.

    What does not fill a batch is left out: a batch of another size would compile anew.
    """
    sequences = text.unfold(0, context + 1, context)
    batches = len(sequences) // batch_size
    return sequences[: batches * batch_size].view(batches, batch_size, context + 1).long()
