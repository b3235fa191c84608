"""Reads cases written as mappings whose keys are the fields of `Case`.

A project can describe its cases in this form without importing this package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from compile_checks._engine.case import Case
from compile_checks._engine.costs import Limits
from compile_checks._engine.gates import GATES
from compile_checks._engine.scenarios import Calls
from compile_checks.command.modules import TargetError


class _Field(NamedTuple):
    expected: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_gates(value: Any) -> bool:
    listed = isinstance(value, Collection) and not isinstance(value, (str, Mapping))
    return listed and all(gate in GATES for gate in value)


def _is_graph(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_text(op) and _is_count(count) for op, count in value.items())
    return value is None or _is_text(value)


FIELDS: Final[Mapping[str, _Field]] = {
    "name": _Field("a non-empty string", lambda value: _is_text(value) and value != ""),
    "fn": _Field("a callable", callable),
    "inputs": _Field("inputs", lambda value: True),
    "dynamic": _Field("True, False or None", lambda value: value is None or _is_flag(value)),
    "backward": _Field("True or False", _is_flag),
    "max_graphs": _Field("a positive integer", lambda value: value is None or _is_count(value)),
    "limits": _Field("compile_checks.Limits", lambda value: isinstance(value, Limits)),
    "covers": _Field("a string", _is_text),
    "fullgraph": _Field("True or False", _is_flag),
    "backend": _Field("the name of a backend", _is_text),
    "compare": _Field("True or False", _is_flag),
    "gates": _Field(f"a list with any of {', '.join(GATES)}", _are_gates),
    "expected_graph": _Field("a string, or a mapping of ops to their counts", _is_graph),
    "time": _Field("True or False", _is_flag),
}
"""The keys: the fields of `Case`, with `inputs` in place of `calls`."""


def case_of(mapping: Mapping[Any, Any], where: str, calls_of: Callable[[str, Any], Calls]) -> Case:
    """Returns the case that a mapping describes.

    Args:
        where: the target and the position in its list. It is the default name of the case.
        calls_of: turns inputs into calls. Its first argument is the name to show in errors.

    Raises:
        TargetError: for an unknown key, a missing `fn` or a value of the wrong type.
    """
    for key, value in mapping.items():
        if key not in FIELDS:
            raise TargetError(f"{where}: unknown key {key!r}; expected one of {', '.join(FIELDS)}")
        if not FIELDS[key].accepts(value):
            expected = FIELDS[key].expected
            raise TargetError(f"{where}: {key!r}: expected {expected}, got {_shown(value)}")
    if "fn" not in mapping:
        raise TargetError(f"{where}: 'fn' is missing: expected a callable")
    fields = {"name": where, **mapping}
    calls = calls_of(where, fields.pop("inputs", ()))
    return Case(**fields, calls=calls)


def _shown(value: Any) -> str:
    """Returns a short description of a wrong value."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else type(value).__name__
