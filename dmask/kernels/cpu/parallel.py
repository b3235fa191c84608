"""Computes parts of a result on several threads.

Python threads suffice, because the kernels release the GIL. The pool is created at first use, and
again in a forked process, because threads do not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

PART_SCORES = 2**16
"""The minimum number of scores per part: waking a thread costs as much as a few thousand scores."""
_PARTS_PER_THREAD = 4
"""More than one, so that other threads can take over from one with slow rows or a busy core."""


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="dmask")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def for_each_part(work: Callable[[int, int], None], rows: int, width: int) -> None:
    """Calls `work(first, stop)` for parts of `rows` rows of `width` scores, on at most
    `torch.get_num_threads()` threads.

    The calling thread works too and processes the parts that no other thread has started.
    Concurrent calls therefore share the pool without waiting for each other.
    """
    threads = torch.get_num_threads()
    count = min(rows, threads * _PARTS_PER_THREAD, rows * width // PART_SCORES)
    if threads == 1 or count <= 1:
        work(0, rows)
        return
    todo = [(rows * i // count, rows * (i + 1) // count) for i in range(count)]
    # pop() is atomic and takes parts from the end. Under causality, the largest ones come first.

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
