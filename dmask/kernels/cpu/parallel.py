"""Works on parts of a result side by side.

The kernels release the GIL, so that Python threads are enough. The pool is made at its first use,
and made anew in a process that was forked: threads do not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

PART_SCORES = 2**16
"""Fewer are not worth a thread: to wake one takes as long as a few thousand of them."""
_PARTS_PER_THREAD = 4
"""A thread that got slow rows, or less of its core, leaves some to the others."""


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="dmask")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def for_each_part(work: Callable[[int, int], None], rows: int, width: int) -> None:
    """Calls `work(first, stop)` for parts of `rows` rows of `width` scores, on at most
    `torch.get_num_threads()` threads.

    The calling thread works too, and takes back what no other thread has begun: calls from many
    threads at once share the pool and never wait for each other's turn.
    """
    threads = torch.get_num_threads()
    count = min(rows, threads * _PARTS_PER_THREAD, rows * width // PART_SCORES)
    if threads == 1 or count <= 1:
        work(0, rows)
        return
    todo = [(rows * i // count, rows * (i + 1) // count) for i in range(count)]
    # pop() is atomic, and takes from the end: under causality the largest parts come first.

    def run() -> None:
        while todo:
            try:
                part = todo.pop()
            except IndexError:
                return  # another thread took the last one
            work(*part)

    futures = [_pool().submit(run) for _ in range(min(threads, count) - 1)]
    try:
        run()
    finally:
        todo.clear()
        for future in futures:
            if not future.cancel():
                future.result()
