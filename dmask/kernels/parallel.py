"""Cuts an array into boxes, and works on them side by side.

NumPy releases the GIL while it works, so that Python threads are enough. The pool is made at its
first use, and made anew in a process that was forked: threads do not survive a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Box = tuple[slice, ...]
"""A part of an array: a slice per dimension but the last, which is the keys and stays whole."""

# A smaller box would stay in the second-level cache, and one thread is then a tenth faster. But
# between NumPy's calls threads wait for each other's GIL, which two of them feel more.
BOX_BYTES = 2**22


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="dmask")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def boxes(shape: tuple[int, ...], itemsize: int) -> Iterator[Box]:
    """Cuts an array of `shape` into boxes of whole rows, contiguous and of about BOX_BYTES each.

    >>> list(boxes((1, 3, 2**20), itemsize=4))
    [(slice(0, 1, None), slice(0, 1, None)), (slice(0, 1, None), slice(1, 2, None)), \
(slice(0, 1, None), slice(2, 3, None))]
    """
    return product(
        *(
            cuts(size, max(1, BOX_BYTES // max(1, itemsize * prod(shape[dim + 1 :]))))
            for dim, size in enumerate(shape[:-1])
        )
    )


def cuts(size: int, step: int) -> list[slice]:
    """Cuts a dimension into slices of at most `step`, of like sizes: no thread has to wait for one
    that got more.
    """
    count = -(-size // step)
    return [slice(size * i // count, size * (i + 1) // count) for i in range(count)]


_scratch = threading.local()


def scratch(role: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Memory of this thread, of unknown content, until the thread asks for the same role again.

    Fresh memory for each box would cost as much as the work on it: it is mapped page by page.
    """
    count, dtype = prod(shape), np.dtype(dtype)
    memory = getattr(_scratch, role, None)
    if memory is None or memory.nbytes < count * dtype.itemsize:
        memory = np.empty(max(BOX_BYTES, count * dtype.itemsize), np.uint8)
        setattr(_scratch, role, memory)
    part: NDArray[Any] = memory[: count * dtype.itemsize].view(dtype).reshape(shape)
    return part


def for_each(work: Callable[[Box], None], parts: Iterator[Box]) -> None:
    """Calls `work` on each of the parts, on at most `torch.get_num_threads()` threads.

    The calling thread works too, and takes back what no other thread has begun: calls from many
    threads at once share the pool and never wait for each other's turn.
    """
    todo = list(parts)
    helpers = min(torch.get_num_threads(), len(todo)) - 1
    # pop() is atomic, and takes from the end: under causality the largest parts come first.

    def run() -> None:
        while todo:
            try:
                part = todo.pop()
            except IndexError:
                return  # another thread took the last one
            work(part)

    futures = [_pool().submit(run) for _ in range(helpers)]
    try:
        run()
    finally:
        todo.clear()
        for future in futures:
            if not future.cancel():
                future.result()
