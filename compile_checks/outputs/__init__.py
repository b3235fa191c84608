"""Output formats for the results of a run. Each is a function from results to text."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from compile_checks._engine.results import Results
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

__all__ = ["FILE_FORMATS", "github", "html", "json", "junit", "markdown", "sarif", "terminal"]
