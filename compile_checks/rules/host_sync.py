"""Calls in which the host waits for the GPU. Checked by the gate `host-sync`."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import Place, place_of, place_of_error
from compile_checks.rules._rule import Rule

RULE = Rule(
    id="host-sync",
    summary="the host waits for the GPU during a call",
    cause="Code such as `.item()` or `.cpu()` makes the host wait for the GPU during a call.",
    fix="Keep the value on the GPU, or read it after the call.",
)
_HINT = "keep the value on the GPU, or copy it with non_blocking=True"
_SYNCED = "called a synchronizing CUDA operation"


@contextmanager
def check(found: list[Finding]) -> Iterator[None]:
    """Adds a finding for each place in a block where the host waits for the GPU."""
    import torch

    before, show = torch.cuda.get_sync_debug_mode(), warnings.showwarning
    places: Counter[Place] = Counter()

    def note(message: Any, category: Any, filename: Any, *rest: Any) -> None:
        if _SYNCED in str(message):  # the debug mode also warns about itself
            places[place_of(traceback.extract_stack(sys._getframe(1)))] += 1
        else:
            show(message, category, filename, *rest)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found += [_finding(place, count) for place, count in places.items()]


def check_call(call: Callable[[], object]) -> Iterator[Finding]:
    """Yields a finding for the first place in a call where the host waits for the GPU.

    Compiled graphs call ops without going through Python's warnings, so `check` misses their syncs.
    This function turns a sync into an error, which ends the call at the first one.
    """
    import torch

    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if _SYNCED not in str(error):
            raise
        yield _finding(place_of_error(error))
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _finding(place: Place, count: int = 1) -> Finding:
    return place.of(RULE.finding("the host waits for the GPU here", _HINT, count=count))
