"""The libraries whose models are surveyed, one file each: `names()`, and `build(name)`."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final

LIBRARIES: Final = {
    "transformers": "transformers",
    "timm": "timm",
    "diffusers": "diffusers",
    "geometric": "torch_geometric",
}
"""The files of this package, and the packages that they survey."""


def installed() -> dict[str, str]:
    """Returns the versions of the libraries that are installed."""
    return {name: version(package) for name, package in LIBRARIES.items() if find_spec(package)}


def library(name: str) -> Any:
    """Imports the file of a library, and with it the library."""
    return import_module(f"{__name__}.{name}")
