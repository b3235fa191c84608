"""How reports are shown: a terminal table, JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping

import torch

from compile_checks.findings import AuditReport

_WIDTH = 80
_COLUMNS = "graphs breaks recompiles result"
_NAME_WIDTH = _WIDTH - len(_COLUMNS) - 1


def header() -> str:
    return f"{'case':{_NAME_WIDTH}} {_COLUMNS}"


def row(name: str, report: AuditReport) -> str:
    """One line of a table, under `header()`, and below it what was found."""
    counts = (
        f"{report.graphs:6} {len(report.graph_breaks):6} {len(report.recompiles):10} "
        f"{'ok' if report.ok else 'FAIL'}"
    )
    return "\n".join(
        [f"{name:{_NAME_WIDTH}} {counts}", *(_wrapped(str(finding)) for finding in report.findings)]
    )


def summary(reports: Mapping[str, AuditReport]) -> str:
    failed = sum(not report.ok for report in reports.values())
    return f"{len(reports)} cases, {failed or 'none'} failed"


def to_json(reports: Mapping[str, AuditReport]) -> str:
    """All reports by case, and the PyTorch that they speak of."""
    document = {
        "torch": torch.__version__,
        "ok": all(report.ok for report in reports.values()),
        "cases": [{"name": name, **report.as_dict()} for name, report in reports.items()],
    }
    return json.dumps(document, indent=2)


def _wrapped(text: str) -> str:
    """Indented, and no wider than the table. Paths stay whole, to be clicked on."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
