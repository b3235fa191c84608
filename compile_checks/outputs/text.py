"""Text helpers that several formats share."""

from __future__ import annotations

import json
import re
from typing import Any

from compile_checks._engine.costs import Times, milliseconds
from compile_checks._engine.findings import YOURS, Finding
from compile_checks._engine.results import Results, portable_path

# Control characters and line separators except tab and newline, and lone surrogates. A terminal
# obeys them, line readers may split at them, and XML or UTF-8 cannot represent some of them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")

GRAPH_BREAK_SITE = "https://meta-pytorch.github.io/compile-graph-break-site/gb/"
"""PyTorch's site with a page for each kind of graph break."""


def printable(text: str) -> str:
    r"""Escapes control characters, so that no terminal obeys them and XML accepts them.

    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def dumped(document: Any) -> str:
    r"""Serializes a document as strict JSON, without lone surrogates from undecodable file names.

    >>> print(dumped(["\udc80"]), end="")
    [
      "\\udc80"
    ]
    """
    return json.dumps(_encodable(document), indent=2) + "\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun.

    >>> plural(1, "graph"), plural(2, "graph")
    ('1 graph', '2 graphs')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def total(results: Results) -> str:
    """Returns one line that sums up a run."""
    known = sum(len(case.known) for case in results.cases)
    accepted = f", {plural(known, 'known finding')}" if known else ""
    failed = results.failed - results.has_stale_entries
    stale = ", stale entries in the baseline" if results.has_stale_entries else ""
    return f"{plural(results.audited, 'case')}, {failed or 'none'} failed{accepted}{stale}"


def graph_break_page(finding: Finding) -> str:
    """Returns the address of PyTorch's page on a graph break, or `""` if its id is unknown.

    >>> graph_break_page(Finding("graph-break", "Data-dependent branching", gb_id="GB0170"))
    'https://meta-pytorch.github.io/compile-graph-break-site/gb/gb0170.html'
    """
    return f"{GRAPH_BREAK_SITE}{finding.gb_id.lower()}.html" if finding.gb_id else ""


def duration(times: Times) -> str:
    """Says how long a call takes.

    >>> duration(Times(25, seconds=0.0066, graph_seconds=0.004))
    'a call spends 4.0 of 6.6 ms in graphs (median of 25 rounds)'
    """
    spent = milliseconds(times.graph_seconds, times.seconds)
    return f"a call spends {spent} in graphs (median of {plural(times.rounds, 'round')})"


def details(finding: Finding) -> list[tuple[str, str]]:
    """Returns the details of a finding besides its place, kind and headline, as named texts.

    >>> details(Finding("recompile", "size of x", guard="size of x", owner="einops", argument="x"))
    [('argument', 'x'), ('owner', 'einops')]
    """
    named = [
        ("guard", "" if finding.guard in finding.reason else finding.guard),
        ("argument", finding.argument),
        ("changed", finding.category),
        ("owner", "" if finding.owner == YOURS else finding.owner),
        ("called from", portable_path(finding.called_from)),
        ("cost", finding.cost),
        *(("hint", hint) for hint in finding.hint.splitlines() if hint.strip()),
        ("see", graph_break_page(finding)),
    ]
    return [(name, text) for name, text in named if text]
