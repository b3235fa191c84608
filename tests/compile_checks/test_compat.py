"""The audit with each private API of PyTorch missing or changed: it continues and adds a note."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from torch import Tensor

import compile_checks
from compile_checks import AuditReport, _compat, _private_api, audit, watch
from compile_checks._compat import APIS
from compile_checks._private_api import PrivateAPI
from compile_checks.command import arguments
from tests.compile_checks.samples import breaks

X = torch.ones(3)
BREAKS = ("branch", "item", "at_end", "in_loop", "twice")
AUDITED = [api for api in APIS if api.only_for != "--backend"]


def path(api: PrivateAPI) -> str:
    return api.path


def double(x: Tensor) -> Tensor:
    return x * 2


def kinds(report: AuditReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def audited(fn: Callable[[Tensor], Tensor], api: PrivateAPI, **options: Any) -> AuditReport:
    """Audits with the gate and the backend that need an API."""
    if api.only_for in ("cudagraph", "inductor"):
        options["backend"] = "inductor"
    if api.only_for == "cudagraph":
        options["gates"] = ["cudagraph"]
    return audit(fn, (X,), **options)


def hide(patch: pytest.MonkeyPatch, *hidden: PrivateAPI) -> None:
    """Pretends that this release of PyTorch does not have some APIs."""
    paths = [api.path for api in hidden]

    def without(name: str) -> Any:
        if name in paths:
            raise AttributeError(name)
        return resolve_name(name)

    patch.setattr(_private_api, "resolve_name", without)


def notes_of(report: AuditReport) -> list[str]:
    return [note for note in report.notes if "CUDA device" not in note]


# ------------------------------------------------------------------ one at a time


def test_this_release_has_all_of_them() -> None:
    assert [api.path for api in APIS if api.get() is None] == []
    assert len({api.path for api in APIS}) == len(APIS) >= 18
    assert notes_of(audit(double, (X,), backend="inductor", gates=["cudagraph"])) == []


@pytest.mark.parametrize("api", AUDITED, ids=path)
def test_clean_code_is_clean_without_it(api: PrivateAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, api)

    report = audited(double, api)

    assert report.ok, report
    assert report.graphs == 1
    name = api.path.replace(":", ".")
    said = f"{api.consequence}: {name} is missing in torch {torch.__version__}"
    assert notes_of(report) == [said]


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("api", [a for a in AUDITED if not a.only_for], ids=path)
def test_a_graph_break_is_found_without_it(
    api: PrivateAPI, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = audit(getattr(breaks, name), (X,))
    hide(monkeypatch, api)

    report = audit(getattr(breaks, name), (X,))

    assert "graph-break" in kinds(expected)
    assert kinds(report) == kinds(expected)
    assert [f.line for f in report.findings] == [f.line for f in expected.findings]
    assert notes_of(report) == [api.note()]


@pytest.mark.parametrize(
    "api", [a for a in AUDITED if a.usable is not _private_api._present], ids=path
)
def test_a_changed_one_is_not_used(api: PrivateAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = object()
    monkeypatch.setattr(
        _private_api,
        "resolve_name",
        lambda name: changed if name == api.path else resolve_name(name),
    )

    report = audited(double, api)

    assert report.ok, report
    (note,) = notes_of(report)
    assert (
        note
        == f"{api.consequence}: {api.path.replace(':', '.')} has changed in torch {torch.__version__}"
    )
    assert "graph-break" in kinds(audited(breaks.branch, api))


def test_all_of_them_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *APIS)

    assert audit(double, (X,)).ok
    report = audit(breaks.item, (X,), expected_graph={"sin": 1}, gates=["opcheck", "export", "pt2"])

    assert "graph-break" in kinds(report)
    assert len(notes_of(report)) == len([api for api in APIS if not api.only_for])
    with watch() as watched:
        torch.compile(breaks.branch, backend="eager")(X)
    assert kinds(watched.report()) == ["graph-break"]
    assert notes_of(watched.report()) == notes_of(report)


# ------------------------------------------------------------------ fallbacks


@pytest.mark.parametrize("api", [_compat.UNSUPPORTED, _compat.USER_ERROR], ids=path)
def test_fullgraph_ends_at_a_break_without_the_classes_of_errors(
    api: PrivateAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, api)

    assert kinds(audit(breaks.branch, (X,), fullgraph=True)) == ["graph-break"]


def test_other_errors_are_no_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("this backend takes nothing")

    hide(monkeypatch, _compat.UNSUPPORTED, _compat.USER_ERROR)
    with pytest.raises(Exception, match="this backend takes nothing"):
        audit(double, (X,), fullgraph=True, backend=refused)


@pytest.mark.parametrize("api", [_compat.CURRENT_COMPILE_ID, _compat.LOOKUP_BACKEND], ids=path)
def test_no_graph_is_compared_without_captured_graphs(
    api: PrivateAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kinds(audit(double, (X,), expected_graph={"sin": 1})) == ["graph-snapshot"]
    hide(monkeypatch, api)

    report = audit(double, (X,), expected_graph={"sin": 1})

    assert report.ok
    assert "graph-snapshot" in notes_of(report)[0]


def test_a_backend_that_is_a_function_is_captured_without_a_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, _compat.LOOKUP_BACKEND)

    report = audit(double, (X,), backend=lambda graph, inputs: graph.forward)

    assert report.captured_graphs[0].ops == (("mul", 1),)


def test_a_trace_without_records_is_never_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = audit(breaks.at_end, (X,)).findings
    monkeypatch.setattr(_compat, "trace_logger", lambda: logging.getLogger("elsewhere"))

    clean, broken = audit(double, (X,)), audit(breaks.at_end, (X,))

    assert {*kinds(clean)} == {*kinds(broken)} == {"disagreement"}
    assert clean.notes == broken.notes == (_compat.silent_trace(),)
    assert [(f.file, f.line) for f in broken.findings if f.file] == [(expected.file, expected.line)]


def test_a_backend_cannot_be_checked_without_their_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments.backend("inductor") == "inductor"
    hide(monkeypatch, _compat.LIST_BACKENDS)

    assert arguments.backend("no such backend") == "no such backend"


# ------------------------------------------------------------------ in a fresh process

PROGRAM = """
import torch._inductor.cudagraph_utils

torch.compile(torch.nn.ReLU())(torch.ones(1))  # PyTorch itself imports everything that it needs
del torch._dynamo.utils.graph_break_reasons
del torch._dynamo.list_backends
del torch._inductor.cudagraph_utils.get_metrics_context

from compile_checks import audit

def double(x):
    return x * 2

def broken(x):
    return x * x.sum().item()

x = torch.ones(3)
clean = audit(double, (x,), gates=["cudagraph"], backend="inductor")
assert clean.ok, clean
print(*clean.notes, sep="\\n")
assert [f.kind for f in audit(broken, (x,)).findings] == ["graph-break"]
"""


def test_a_torch_that_lacks_some_of_them() -> None:
    """Deletes the attributes, except those that PyTorch itself needs to run."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    missing = [line for line in done.stdout.splitlines() if "is missing in torch" in line]
    assert [line.split(": ")[-1].split(" is ")[0] for line in missing] == [
        "torch._dynamo.utils.graph_break_reasons",
        "torch._inductor.cudagraph_utils.get_metrics_context",
    ]


# ------------------------------------------------------------------ the one place

PRIVATE = ("_dynamo", "_guards", "_inductor", "_logging")


def reads_private(file: Path) -> list[str]:
    """Returns the private PyTorch APIs that a file imports or reads."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            found.append(ast.unparse(node))
    return [name for name in found if name.startswith(tuple(f"torch.{p}" for p in PRIVATE))]


def test_no_other_file_reads_private_modules() -> None:
    folder = Path(compile_checks.__path__[0])
    files = [*folder.rglob("*.py")]

    assert len(files) > 50
    assert [f.name for f in files if reads_private(f)] == ["_compat.py"]
