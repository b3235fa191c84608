"""Real English text without a download: the reference that CPython ships for `help()`."""

from __future__ import annotations

from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from torch import Tensor

HELD_OUT = 0.1
"""The fraction of the text that is not used for training."""


class Corpus(NamedTuple):
    """The bytes of a text, uint8 `[length]`, split into two parts."""

    train: Tensor
    held_out: Tensor


def python_reference() -> Corpus:
    """Returns Python's language reference, with its end held out.

    Topics repeat whole sections of each other. Only the first occurrence of a paragraph is kept, so
    that held-out text does not occur in the training text.
    """
    paragraphs = dict.fromkeys(
        paragraph.strip("\n") for topic in topics.values() for paragraph in topic.split("\n\n")
    )
    text = torch.tensor(list("\n\n".join(paragraphs).encode()), dtype=torch.uint8)
    end = len(text) - int(HELD_OUT * len(text))
    return Corpus(text[:end], text[end:])


def unigram_entropy(text: Tensor) -> float:
    """Returns bits per byte: the lowest loss of a model that knows only the frequency of bytes.

    >>> unigram_entropy(torch.tensor([0, 0, 1, 2], dtype=torch.uint8))
    1.5
    """
    counts = text.long().bincount().double()
    shares = counts[counts > 0] / len(text)
    return float(-(shares * shares.log2()).sum())


def random_batch(text: Tensor, batch_size: int, context: int, generator: torch.Generator) -> Tensor:
    """Returns sequences from random positions in the text, int64 `[batch_size, context + 1]`.

    They are one byte longer than the context, because each byte predicts the next one.
    """
    starts = torch.randint(len(text) - context, (batch_size, 1), generator=generator)
    return text[starts + torch.arange(context + 1)].long()


def ordered_batches(text: Tensor, batch_size: int, context: int) -> Tensor:
    """Returns the text in order, int64 `[batches, batch_size, context + 1]`.

    Drops the last, incomplete batch, because a batch of another size would recompile.
    """
    sequences = text.unfold(0, context + 1, context)
    batches = len(sequences) // batch_size
    return sequences[: batches * batch_size].view(batches, batch_size, context + 1).long()
