"""Reads the table `[tool.compile_checks]` of a pyproject.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "[tool.compile_checks]"
_KEYS = ("targets", "required")

NO_TARGET = f"""\
Name a target, for example
    python -m compile_checks model.py::Model
or list the targets of the project in its pyproject.toml:
    {TABLE}
    targets = ["model.py::Model"]"""


class ConfigError(Exception):
    """Raised for an invalid configuration file, or if there is nothing to audit."""


@dataclass(frozen=True)
class Config:
    """The table of one project."""

    file: Path
    targets: tuple[str, ...]
    """The default targets of the command. Their paths are relative to the file."""
    required: str = ""
    """The `module:callable` that returns the names that cases must cover. May be empty."""


def nearest(folder: Path) -> Config:
    """Returns the configuration of the project that contains a folder.

    That is the first pyproject.toml with a `[tool.compile_checks]` table, in the folder itself or
    in one of its parents.

    Raises:
        ConfigError: if there is no such table, or if it is not valid.
    """
    for parent in (folder, *folder.parents):
        file = parent / "pyproject.toml"
        if file.is_file() and (table := _table(file)) is not None:
            return _config(file, table)
    raise ConfigError(f"nothing to audit. {NO_TARGET}")


def _table(file: Path) -> Any:
    """Returns the table of a file, or None if it has none."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None
    tool = document.get("tool", {})
    return tool.get("compile_checks") if isinstance(tool, Mapping) else None


def _config(file: Path, table: Any) -> Config:
    where = f"{file}: {TABLE}"
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table, got {table!r}")
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}; expected one of {', '.join(_KEYS)}")
    targets, required = table.get("targets", []), table.get("required", "")
    if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
        raise ConfigError(f"{where}: 'targets': expected a list of strings, got {targets!r}")
    if not isinstance(required, str):
        raise ConfigError(f"{where}: 'required': expected a string, got {required!r}")
    if not targets:
        raise ConfigError(f"{where}: nothing to audit: 'targets' is empty. {NO_TARGET}")
    return Config(file, tuple(targets), required)
