"""What PyTorch's own counters of graph breaks miss: the numbers in `docs/audit-counters.md`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch._dynamo
from torch._dynamo.utils import counters, graph_break_reasons

from compile_checks import audit
from tests.compile_checks.samples import breaks

DOCS = (Path(__file__).parent.parent.parent / "docs" / "audit-counters.md").read_text()
BEFORE_2_13 = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13)


class Counts(NamedTuple):
    """What each counter says about one function, and what `fullgraph=True` does with it."""

    explain: int
    counters: int
    reasons: int
    audit: int
    fullgraph: str


COUNTS = {
    "branch": Counts(1, 0, 1, 1, "raises"),
    "item": Counts(1, 1, 1, 1, "passes from 2.13 on"),
    "at_start": Counts(0, 1, 1, 1, "raises"),
    "at_end": Counts(0, 1, 1, 1, "raises"),
    "in_loop": Counts(-1, 0, 0, 1, "raises"),
    "twice": Counts(2, 3, 3, 3, "raises"),
    "nonzero": Counts(0, 1, 1, 1, "passes from 2.13 on"),
    "disabled": Counts(1, 1, 1, 1, "raises"),
}


@pytest.mark.parametrize("name", COUNTS)
def test_what_each_way_says(name: str) -> None:
    function, expected = getattr(breaks, name), COUNTS[name]

    explained = torch._dynamo.explain(function)(torch.ones(3)).graph_break_count
    counted, reasons = counted_by_dynamo(name)
    found = len(audit(function, (torch.ones(3),)).graph_breaks)

    assert (explained, counted, reasons, found) == expected[:4]
    passes = expected.fullgraph != "raises" and not BEFORE_2_13
    assert passes_fullgraph(name) == passes


def counted_by_dynamo(name: str) -> tuple[int, int]:
    torch.compiler.reset()
    counters.clear()
    graph_break_reasons.clear()
    torch.compile(getattr(breaks, name), backend="eager")(torch.ones(3))
    return sum(counters["graph_break"].values()), len(graph_break_reasons)


def passes_fullgraph(name: str) -> bool:
    torch.compiler.reset()
    try:
        torch.compile(getattr(breaks, name), backend="eager", fullgraph=True)(torch.ones(3))
    except torch._dynamo.exc.Unsupported:
        return False
    return True


def test_a_reset_does_not_clear_the_counters() -> None:
    counted_by_dynamo("item")
    torch.compiler.reset()

    assert sum(counters["graph_break"].values()) == 1
    counters.clear()


def test_the_page_has_these_figures() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*?\| (-?\d+) \| (\d+) \| (\d+) \| (\d+) \| ([^|]*) \|$", DOCS, re.M
    )

    written = {name: Counts(*map(int, numbers), text) for name, *numbers, text in rows}
    assert written == COUNTS
