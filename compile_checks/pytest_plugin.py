"""The pytest plugin: a fixture `compile_audit` and a marker of the same name.

pytest loads it wherever this project is installed. It costs nothing until a test asks for it: torch
is imported by the first test that does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from compile_checks.findings import AuditReport

_MARKER = (
    "compile_audit(*, max_graphs=None): fail the test where what it compiles breaks a graph, "
    "recompiles, falls back to eager mode, or is more than `max_graphs` graphs; or where it "
    "compiles nothing."
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def compile_audit() -> Callable[..., AuditReport]:
    """Audits a function or module, and fails the test where there is a finding.

    It is called as `compile_checks.audit` is, and returns the report, which is clean.
    """
    from compile_checks import audit

    def audited(*args: Any, **options: Any) -> AuditReport:
        __tracebackhide__ = True
        report = audit(*args, **options)
        _fail_on_findings(report)
        return report

    return audited


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    marker = item.get_closest_marker("compile_audit")
    if marker is None:
        return (yield)
    options = _options(marker)
    import torch

    from compile_checks import watch

    torch.compiler.reset()  # what an earlier test has compiled is none of this test's graphs
    with watch(**options) as watched:
        outcome = yield
    _fail_on_findings(watched.report())
    return outcome


def _options(marker: pytest.Mark) -> dict[str, Any]:
    unknown = [*map(repr, marker.args), *(name for name in marker.kwargs if name != "max_graphs")]
    if unknown:
        raise pytest.UsageError(f"marker compile_audit: unknown {unknown[0]}; it is {_MARKER}")
    return dict(marker.kwargs)


def _fail_on_findings(report: AuditReport) -> None:
    __tracebackhide__ = True
    if not report.ok:
        pytest.fail("\n\n".join(f.full_text() for f in report.findings), pytrace=False)
