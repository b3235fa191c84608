"""The pytest plugin: a fixture and a marker, both named `compile_audit`.

pytest loads it in any environment that has this package. It costs nothing until a test uses it:
only the first such test imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from compile_checks._engine.findings import AuditReport

_NAME = "compile_audit"
_MARKER = (
    f"{_NAME}(*, max_graphs=None): fail the test if anything that it compiles breaks a graph, "
    "recompiles or falls back to eager mode, or if it compiles nothing or more than `max_graphs` "
    "graphs."
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def compile_audit() -> Callable[..., AuditReport]:
    """Audits a function or module, and fails the test if there is a finding.

    The fixture takes the arguments of `compile_checks.audit` and returns the report.
    """
    from compile_checks import audit

    def audited(*args: Any, **options: Any) -> AuditReport:
        __tracebackhide__ = True
        report = audit(*args, **options)
        _fail_on_findings(report)
        return report

    return audited


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rejects a marker with wrong arguments before any test runs."""
    for item in items:
        for marker in item.iter_markers(_NAME):
            unknown = [*map(repr, marker.args), *marker.kwargs.keys() - {"max_graphs"}]
            if unknown:
                raise pytest.UsageError(f"{item.nodeid}: unknown {unknown[0]}: {_MARKER}")
            budget = marker.kwargs.get("max_graphs")
            if not (budget is None or isinstance(budget, int)):
                raise pytest.UsageError(
                    f"{item.nodeid}: max_graphs: expected an integer, got {budget!r}"
                )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    marker = item.get_closest_marker(_NAME)
    if marker is None:
        return (yield)
    import torch

    from compile_checks import watch

    torch.compiler.reset()  # do not count graphs of earlier tests
    with watch(**marker.kwargs) as watched:
        outcome = yield
    _fail_on_findings(watched.report())
    return outcome


def _fail_on_findings(report: AuditReport) -> None:
    __tracebackhide__ = True
    if not report.ok:
        pytest.fail(report.full_text(), pytrace=False)
