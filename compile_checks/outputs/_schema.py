"""Generates the JSON Schema of the JSON report."""

from __future__ import annotations

from typing import Any

from compile_checks._engine.findings import CATEGORIES
from compile_checks.rules import KINDS

Schema = dict[str, Any]


def schema() -> Schema:
    """Returns the schema (draft 2020-12)."""
    document = _object(
        "The report that `python -m compile_checks --json FILE` writes.",
        schema_version=_text(
            "The major number changes if readers may break, the minor number if fields are added."
        )
        | {"pattern": r"^1\.\d+$"},
        tool={"const": "compile_checks"},
        torch=_text("The version of PyTorch."),
        python=_text("The version of Python."),
        ok=_flag("True if no case has findings, apart from known ones."),
        summary=_text("A one-line summary for people."),
        cases=_list("The cases in the order of the run.", _ref("case")),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of compile_checks, version 1",
        **document,
        "$defs": {
            "case": _case(),
            "mode": _mode(),
            "graph_break": _graph_break(),
            "recompile": _recompile(),
            "captured_graph": _captured_graph(),
            "frame": _frame(),
            "times": _times(),
            "finding": _finding("One problem.", fingerprint=_text(_FINGERPRINT)),
            "known": _known(),
            "plain_finding": _finding("A finding without its fingerprint."),
        },
    }


_REASON = "What happened: a headline on the first line, then PyTorch's details."
_FILE = "Path of the file. Empty if there is no place."
_OWNER = "The owner of the code: yours, torch, python, or the name of an installed package."
_CALLED_FROM = "Your line that leads to a place in a library, as file:line. Empty if none does."
_FINGERPRINT = "Depends only on the kind, the file, the text of the line and the headline."
_FRAME = "The name of the function or resume function."
_AT_BREAK = "How long a call is in Python at the break. Null if it was not measured."
_FRAME_LINE = "The first line of the frame."


def _case() -> Schema:
    return _object(
        "One case in one mode.",
        name=_text("Unique in the report."),
        seconds=_seconds("The duration of the audit."),
        file=_text("The file that defines the audited callable. May be empty."),
        line=_number("The first line of the callable, or 0."),
        ok=_flag("True if the case has no findings."),
        graphs=_number("The number of compiled graphs."),
        graph_breaks=_list("One entry for each time Dynamo hit a break.", _ref("graph_break")),
        recompiles=_list("All recompiles, including those within the budget.", _ref("recompile")),
        findings=_list("The problems of the case.", _ref("finding")),
        mode={
            "description": "How the code was compiled and called. Null if it was not.",
            "anyOf": [_ref("mode"), {"type": "null"}],
        },
        captured_graphs=_list("The graphs in order of compilation.", _ref("captured_graph")),
        frames=_list("The compiled functions, those first that took longest.", _ref("frame")),
        times={
            "description": "How long a call takes. Null if `--time` was not given or not possible.",
            "anyOf": [_ref("times"), {"type": "null"}],
        },
        notes=_list("What could not be checked, and why.", {"type": "string"}),
        known=_list("The findings that are accepted.", _ref("known")),
    )


def _mode() -> Schema:
    return _object(
        "The settings used to compile and call.",
        fullgraph={"type": "boolean"},
        dynamic={"type": ["boolean", "null"]},
        backward={"type": "boolean"},
        backend={"type": "string"},
    )


def _graph_break() -> Schema:
    return _object(
        "A place where a graph ended.",
        reason=_text(_REASON),
        **_place(),
        gb_id=_text("PyTorch's id of the graph break, such as GB0170. Empty if unknown."),
        hint=_text("What to do, one hint per line."),
        owner=_text(_OWNER),
        compile_id=_text("The compilation that the break ended."),
        called_from=_text(_CALLED_FROM),
        ops_before=_number("The number of ops of the graph that ends there."),
        ops_after=_number("The number of ops of the next graph."),
        seconds=_measured(_AT_BREAK),
        skipped=_flag("True if all of the function runs in eager mode because of the break."),
    )


def _recompile() -> Schema:
    return _object(
        "A frame that was compiled again.",
        reasons=_list(
            "The guard that failed, for each earlier compilation of the frame.", {"type": "string"}
        ),
        file=_text(_FILE),
        line=_number(_FRAME_LINE),
        **_guard(),
        owner=_text(_OWNER),
        compile_id=_text("The new compilation."),
        hint=_text("PyTorch's advice. Empty if it gives none."),
        guard_file=_text("Path of the file that reads the guarded value. Empty if unknown."),
        guard_line=_number("The line that reads the guarded value. 0 if unknown."),
        frame=_text(_FRAME),
    )


def _captured_graph() -> Schema:
    count = _number("The number of calls.") | {"minimum": 1}
    pair = {
        "type": "array",
        "prefixItems": [{"type": "string"}, count],
        "items": False,
        "minItems": 2,
    }
    return _object(
        "A graph that Dynamo captured.",
        compile_id=_text("Frame and compilation, such as 0/1."),
        frame=_text("The name of the function or of its resume function."),
        file=_text(_FILE),
        line=_number(_FRAME_LINE),
        text=_text("The graph as readable Python."),
        canonical=_text("The graph without names, places and types."),
        ops=_list("Pairs of an op and the number of calls to it.", pair),
    )


def _frame() -> Schema:
    return _object(
        "A function that Dynamo compiled, and what that costs.",
        name=_text(_FRAME),
        file=_text(_FILE),
        line=_number(_FRAME_LINE),
        entries=_number("How many times it was compiled."),
        graphs=_number("The number of its graphs."),
        ops=_number("The number of ops of its graphs."),
        guards=_number("The number of guards of all entries."),
        seconds=_seconds("How long all compilations took, with the backend."),
    )


def _times() -> Schema:
    return _object(
        "How long a call takes when everything is compiled.",
        rounds=_number("How often the calls were measured. The seconds are of the median round."),
        seconds=_seconds("One call; if there are several, their mean."),
        graph_seconds=_seconds("The part of it inside compiled graphs."),
    )


def _finding(description: str, **more: Schema) -> Schema:
    return _object(
        description,
        kind={
            "description": "The rule. docs/audit-findings.md describes all of them.",
            "enum": [*KINDS],
        },
        reason=_text(_REASON),
        hint=_text("What to do, one hint per line."),
        gb_id=_text("PyTorch's id of the graph break, such as GB0170. Empty if unknown."),
        **_place(),
        owner=_text(_OWNER),
        count=_number("The number of times it happened.") | {"minimum": 1},
        case=_text("The name of the audited case."),
        **_guard(),
        called_from=_text(_CALLED_FROM),
        cost=_text("What it costs. Empty if unknown."),
        seconds=_measured(_AT_BREAK),
        number=_number("Its number in the case, from 1. 0 if it was added after the audit."),
        caused_by=_number(
            "The number of the finding without which this one would not exist. 0 if there is none."
        ),
        **more,
    )


def _known() -> Schema:
    return _object(
        "A finding that a baseline, a comment or `ignore` accepts.",
        finding=_ref("plain_finding"),
        reason=_text("Why it is accepted."),
        expires=_text("The last day on which it is accepted. Empty if it is always ignored.")
        | {"pattern": r"^(\d{4}-\d{2}-\d{2})?$"},
        fingerprint=_text(_FINGERPRINT),
    )


# ------------------------------------------------------------------ parts


def _place() -> dict[str, Schema]:
    return {
        "file": _text(_FILE),
        "line": _number("The line number, from 1. 0 if there is no place."),
        "source": _text("The text of the line."),
    }


def _guard() -> dict[str, Schema]:
    return {
        "category": {"description": "What changed before a recompile.", "enum": [*CATEGORIES]},
        "guard": _text("The guard that failed before a recompile."),
        "argument": _text("The argument or variable in the guard."),
    }


def _object(description: str, **properties: Schema) -> Schema:
    """Returns the schema of an object with exactly these properties."""
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "required": [*properties],
        "properties": properties,
    }


def _list(description: str, items: Schema) -> Schema:
    return {"description": description, "type": "array", "items": items}


def _text(description: str) -> Schema:
    return {"description": description, "type": "string"}


def _flag(description: str) -> Schema:
    return {"description": description, "type": "boolean"}


def _number(description: str) -> Schema:
    return {"description": description, "type": "integer", "minimum": 0}


def _seconds(description: str) -> Schema:
    return {"description": description, "type": "number", "minimum": 0}


def _measured(description: str) -> Schema:
    return {"description": description, "type": ["number", "null"], "minimum": 0}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
