"""The pytest plugin, loaded by its entry point in another process, as in a user's project."""

from __future__ import annotations

import pytest

from tests.compile_checks.install import python_path

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project in an environment that has this package installed."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("PYTHONPATH", python_path(pytester.path / "installed"))
    pytester.makeini("[pytest]\naddopts = --strict-markers -W error -p no:cacheprovider\n")
    return pytester


def test_it_imports_no_torch_until_it_is_asked_for(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_nothing(pytestconfig):
            assert pytestconfig.pluginmanager.get_plugin("compile_checks") is not None
            assert "compile_checks.pytest_plugin" in sys.modules
            assert "torch" not in sys.modules
        """
    )

    project.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize("options", [[], ["--log-level=DEBUG"], ["--log-cli-level=DEBUG"]])
def test_a_failing_audit_prints_no_records_of_the_trace(
    project: pytest.Pytester, options: list[str]
) -> None:
    project.makepyfile(
        """
        import pytest
        import torch
        from compile_checks import audit

        def branching(x):
            return x + 1 if x.sum() > 0 else x - 1

        def test_fixture(compile_audit):
            compile_audit(branching, (torch.ones(3),))

        def test_call():
            audit(branching, (torch.ones(3),)).assert_clean()

        @pytest.mark.compile_audit
        def test_marked():
            torch.compile(branching, backend="eager")(torch.ones(3))
        """
    )
    result = project.runpytest_subprocess(*options)

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*graph-break: Data-dependent branching*"])
    result.stdout.no_fnmatch_line("*torch.__trace*")


def test_fixture_and_marker(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        import torch

        def branching(x):
            return x + 1 if x.sum() > 0 else x - 1

        compiled = torch.compile(branching, backend="eager")
        clean = torch.compile(torch.nn.ReLU(), backend="eager", dynamic=False)

        def test_clean(compile_audit):
            assert compile_audit(torch.nn.ReLU(), (torch.ones(3),), dynamic=True).graphs == 1

        def test_broken(compile_audit):
            compile_audit(branching, (torch.ones(3),))

        @pytest.mark.compile_audit
        def test_marked_clean():
            clean(torch.ones(3))

        @pytest.mark.compile_audit
        def test_marked_again():
            clean(torch.ones(3))

        @pytest.mark.compile_audit(max_graphs=2)
        def test_marked_budget():
            clean(torch.ones(3))
            clean(torch.ones(4))

        @pytest.mark.compile_audit(max_graphs=1)
        def test_marked_beyond():
            clean(torch.ones(3))
            clean(torch.ones(4))

        @pytest.mark.compile_audit
        def test_marked_broken():
            compiled(torch.ones(3))

        @pytest.mark.compile_audit
        def test_marked_idle():
            pass

        @pytest.mark.compile_audit
        def test_marked_failing():
            compiled(torch.ones(3))
            assert 1 == 2

        @pytest.mark.compile_audit
        class TestClass:
            def test_inside(self):
                clean(torch.ones(3))
        """
    )

    result = project.runpytest_subprocess("-rA", "--show-capture=no")

    result.assert_outcomes(passed=5, failed=5)
    result.stdout.fnmatch_lines_random(
        [
            "PASSED *::test_clean",
            "FAILED *::test_broken - *graph-break: Data-dependent branching*",
            "PASSED *::test_marked_clean",
            "PASSED *::test_marked_again",
            "PASSED *::test_marked_budget",
            "FAILED *::test_marked_beyond - *graph-budget: 2 graphs compiled, at most 1 expected*",
            "FAILED *::test_marked_broken - *graph-break: Data-dependent branching*",
            "FAILED *::test_marked_idle - *nothing-compiled: no graph was compiled*",
            "FAILED *::test_marked_failing - assert 1 == 2",
            "PASSED *::TestClass::test_inside",
        ]
    )
    # The full text of a finding, first of all its line, without frames of the plugin.
    result.stdout.fnmatch_lines(
        [
            "*_ test_broken _*",
            "*.py:5: graph-break: Data-dependent branching",
            "*source: return x + 1 if x.sum() > 0 else x - 1",
            "*Explanation: *",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


@pytest.mark.parametrize(("written", "unknown"), [("max_graph=2", "max_graph"), ("2", "2")])
def test_a_marker_that_is_written_wrongly_stops_before_any_test(
    written: str, unknown: str, project: pytest.Pytester
) -> None:
    project.makepyfile(
        f"import pytest\n@pytest.mark.compile_audit({written})\ndef test_it(): ...\n"
    )

    result = project.runpytest_subprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *::test_it: unknown {unknown}: compile_audit(*"])


def test_several_findings_are_listed_before_their_details(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import torch

        def twice(x):
            x = x + 1 if x.sum() > 0 else x - 1
            torch._dynamo.graph_break()
            return x * 2

        def test_it(compile_audit):
            compile_audit(twice, torch.ones(3))
        """
    )

    result = project.runpytest_subprocess()

    result.stdout.fnmatch_lines(
        [
            "*_ test_it _*",
            "*.py:4: graph-break: Data-dependent branching",
            "*.py:5: graph-break: Call to `torch._dynamo.graph_break()`",
            "",
            "*.py:4: graph-break: Data-dependent branching",
            "*source: *",
        ],
        consecutive=True,
    )


@pytest.mark.parametrize("budget", ["'2'", "2.5"])
def test_a_marker_whose_budget_is_no_number_of_graphs(
    budget: str, project: pytest.Pytester
) -> None:
    project.makepyfile(
        f"import pytest\n@pytest.mark.compile_audit(max_graphs={budget})\ndef test_it(): ...\n"
    )

    result = project.runpytest_subprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *::test_it: max_graphs: expected *, got {budget}"])


def test_the_marker_explains_itself(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--markers")

    result.stdout.fnmatch_lines(["@pytest.mark.compile_audit(*, max_graphs=None): fail the test *"])


def test_the_fixture_explains_itself(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--fixtures", "-v")

    result.stdout.fnmatch_lines(["compile_audit *", "    Audits a function or module, *"])
