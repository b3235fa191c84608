"""The table of rules: one file per rule, and importing it does not need torch."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import compile_checks
from compile_checks import KINDS, Finding
from compile_checks._engine.gates import GATES
from compile_checks.rules import RULES
from compile_checks.rules._rule import Rule

FOLDER = Path(compile_checks.__path__[0]) / "rules"
FILES = [file.stem for file in FOLDER.glob("*.py") if not file.stem.startswith("_")]


def test_every_file_is_in_the_table() -> None:
    assert sorted(name.replace("_", "-") for name in FILES) == [*RULES] == [*KINDS]


@pytest.mark.parametrize("name", FILES)
def test_a_rule_has_the_name_of_its_file_and_all_texts(name: str) -> None:
    rule: Rule = import_module(f"compile_checks.rules.{name}").RULE

    assert rule.id == name.replace("_", "-")
    assert RULES[rule.id] is rule
    assert KINDS[rule.id] == rule.summary
    assert not rule.summary.endswith(".")
    assert rule.cause.endswith(".")
    assert rule.fix.endswith(".")
    assert rule.finding("why", "how", line=3) == Finding(rule.id, "why", "how", line=3)


def test_the_engine_takes_the_ids_from_the_rules() -> None:
    """Ignores gates and options, which share the names of rules, and doctests, which show findings."""
    ids = {*RULES} - {*GATES}
    shown = ("findings.py", "results.py", "against.py")

    for folder in ("_engine", "command"):
        for file in (FOLDER.parent / folder).glob("*.py"):
            code = file.read_text()
            assert file.name in shown or not [kind for kind in ids if f'"{kind}"' in code], file


@pytest.mark.parametrize("module", ["compile_checks", "compile_checks.rules.__main__"])
def test_the_table_imports_no_torch(module: str) -> None:
    program = f"import sys, {module}; assert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_module_has_the_name_of_a_public_one() -> None:
    """A submodule with the same name would replace it once imported."""
    modules = {file.stem for file in FOLDER.parent.iterdir()}

    assert not modules & {*compile_checks.__all__}
    private = {name for name in modules if not name.startswith("_")}
    assert private == {"command", "outputs", "overhead", "py", "pytest_plugin", "rules", "survey"}
