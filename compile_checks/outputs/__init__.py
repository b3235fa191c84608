"""Output formats for the results of a run. Each is a function from results to text."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from compile_checks._engine.findings import AuditReport
from compile_checks._engine.results import CaseResult, Results
from compile_checks.outputs import github, html, json, junit, markdown, sarif, terminal

FILE_FORMATS: Final[Mapping[str, Callable[[Results], str]]] = MappingProxyType(
    {
        "html": html.render,
        "json": json.render,
        "junit": junit.render,
        "markdown": markdown.render,
        "sarif": sarif.render,
    }
)
"""The formats that the command can write to a file, by the name of the option."""


def rendered(report: AuditReport, form: str, name: str = "audit") -> str:
    """Returns a report of `audit` or `watch` in one of `FILE_FORMATS`.

    Args:
        report: the report.
        form: `"html"`, `"json"`, `"junit"`, `"markdown"` or `"sarif"`.
        name: what to call the case.

    Raises:
        ValueError: for an unknown format.

    >>> print(rendered(AuditReport(graphs=1), "markdown", "my model").splitlines()[-1])
    | my model | 1 | 0 | 0 | ok |
    """
    if form not in FILE_FORMATS:
        raise ValueError(f"form: expected one of {', '.join(FILE_FORMATS)}, got {form!r}")
    import torch  # only for its version

    return FILE_FORMATS[form](Results((CaseResult(name, report),), torch.__version__))


__all__ = [
    "FILE_FORMATS",
    "github",
    "html",
    "json",
    "junit",
    "markdown",
    "rendered",
    "sarif",
    "terminal",
]
