"""Reads the table `[tool.compile_checks]` of a pyproject.toml."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from compile_checks._engine.gates import GATES
from compile_checks.command.arguments import DYNAMIC, MODES, backend
from compile_checks.command.plan import Options, Target
from compile_checks.rules import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "[tool.compile_checks]"

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
    targets: tuple[Target, ...]
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
    try:
        if not isinstance(table, Mapping):
            raise ValueError(f"expected a table, got {table!r}")
        _check_keys(table, ("targets", "required", *_OPTIONS))
        targets, required = table.get("targets", []), table.get("required", "")
        if not isinstance(targets, list):
            raise ValueError(f"'targets': expected a list, got {targets!r}")
        if not isinstance(required, str):
            raise ValueError(f"'required': expected a string, got {required!r}")
        if not targets:
            raise ValueError(f"nothing to audit: 'targets' is empty. {NO_TARGET}")
        shared = _options(table)
        return Config(file, tuple(_target(entry, shared) for entry in targets), required)
    except ValueError as error:
        raise ConfigError(f"{file}: {TABLE}: {error}") from None


def _target(entry: Any, shared: Options) -> Target:
    """Reads an entry of `targets`: a name, or a table with options that replace the shared ones."""
    if isinstance(entry, str):
        return Target(entry, shared)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("target"), str):
        raise ValueError(
            f"'targets': expected strings and tables such as {{ target = \"model.py::Model\", "
            f"budget = 2 }}, got {entry!r}"
        )
    try:
        _check_keys(entry, ("target", *_OPTIONS))
        return Target(entry["target"], _options(entry).over(shared))
    except ValueError as error:
        raise ValueError(f"{entry['target']}: {error}") from None


def _check_keys(table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(
                f"unknown key {key!r}{_close(key, known)}; expected one of {', '.join(known)}"
            )


def _close(value: Any, choices: Collection[str]) -> str:
    """Returns a suggestion for a misspelled value, or `""`."""
    close = get_close_matches(str(value), choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _options(table: Mapping[str, Any]) -> Options:
    read = {key: _OPTIONS[key](key, table[key]) for key in _OPTIONS if key in table}
    return Options(**read)


def _one_of(choices: Collection[str]) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{key!r}: expected one of {', '.join(choices)}, "
                f"got {value!r}{_close(value, choices)}"
            )
        return value

    return read


def _several_of(choices: Collection[str]) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"{key!r}: expected a list, got {value!r}")
        return tuple(_one_of(choices)(key, item) for item in value)

    return read


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key!r}: expected true or false, got {value!r}")
    return value


def _positive(key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{key!r}: expected a positive integer, got {value!r}")
    return value


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{key!r}: expected a positive number of seconds, got {value!r}")
    return float(value)


def _backend(key: str, value: Any) -> str:
    try:
        return backend(value if isinstance(value, str) else repr(value))
    except ArgumentTypeError as error:
        raise ValueError(f"{key!r}: {error}") from None


_OPTIONS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "mode": _one_of(MODES),
    "dynamic": _one_of(DYNAMIC),
    "backward": _flag,
    "backend": _backend,
    "budget": _positive,
    "max_entries": _positive,
    "max_guards": _positive,
    "max_seconds": _seconds,
    "time": _flag,
    "gates": _several_of(GATES),
    "ignore": _several_of(KINDS),
}
"""The options of the command that a table may set, and what reads each."""
