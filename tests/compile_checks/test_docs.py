"""Follows the pages on the audit literally: writes their files and runs their commands."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compile_checks.command import config
from compile_checks.rules import RULES
from compile_checks.rules import __main__ as generate
from compile_checks.rules.__main__ import documents
from tests.compile_checks.install import ROOT, python_path

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Reader:
    """Does with each block what the sentence before it says, in a temporary folder."""

    folder: Path
    python_path: str
    replaced: str | None = None
    done: list[str] = field(default_factory=list)

    def follow(self, page: str) -> None:
        end = 0
        for block in FENCE.finditer(page):
            before = page[end : block.start()].strip().splitlines()
            getattr(self, f"do_{block[1]}")(before[-1] if before else "", block[2])
            end = block.end()

    def do_python(self, said: str, code: str) -> None:
        model = self.folder / "model.py"
        if named := re.fullmatch(r"(?:Say this is your )?`(\w+\.py)`:", said):
            (self.folder / named[1]).write_text(code)
            self.done.append(f"wrote {named[1]}")
        elif said.endswith(("to the end of `model.py`:", "Add to `model.py`:")):
            model.write_text(f"{model.read_text()}\n\n{code}")
            self.done.append("added")
        elif said.endswith("the branch"):
            self.replaced = code
        elif said.endswith("with code that has no branch"):
            assert self.replaced is not None
            assert self.replaced in model.read_text()
            model.write_text(model.read_text().replace(self.replaced, code))
            self.done.append("replaced")
        else:
            raise AssertionError(f"nothing says what this block is for: {said!r}")

    def do_console(self, said: str, session: str) -> None:
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            written = self.run(command)
            same = doctest.OutputChecker().check_output(expected, written, doctest.ELLIPSIS)
            assert same, f"$ {command}\nexpected:\n{expected}\nwritten:\n{written}"
            self.done.append("ran")

    def do_toml(self, said: str, code: str) -> None:
        if said != "`pyproject.toml`:":  # a part of a table: it must be valid
            file = self.folder / "part.toml"
            file.write_text(f"[tool.compile_checks]\n{code}")
            assert config._config(file, config._table(file)).targets
            return
        (self.folder / "pyproject.toml").write_text(code)
        self.done.append("configured")

    def do_sh(self, said: str, code: str) -> None:
        assert "pip install" in code

    def do_yaml(self, said: str, code: str) -> None:
        """Runs the workflow's command unchanged. Another file names the hook."""
        if said == "`.pre-commit-config.yaml`:":
            name = re.search(r"- id: (\S+)", code)
            assert name is not None
            assert f"- id: {name[1]}\n" in (ROOT / ".pre-commit-hooks.yaml").read_text()
            return
        command = re.search(r"run: >\n((?: {10}.*\n)+)", code)
        assert command is not None
        self.done.append(self.run(command[1].replace("$GITHUB_STEP_SUMMARY", "summary.md")))

    def run(self, command: str) -> str:
        program, *arguments = shlex.split(command)
        assert program == "python"
        environment = {
            **{name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"},
            "PYTHONPATH": self.python_path,
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ).stdout


def test_a_stranger_follows_the_pages(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "project", python_path(tmp_path / "installed"))
    reader.folder.mkdir()

    reader.follow((DOCS / "audit.md").read_text())
    assert reader.done.count("ran") == 17
    assert any("\n2 cases, none failed\n" in done for done in reader.done)  # the workflow's
    tests = reader.run("python -m pytest -q -p no:cacheprovider")
    assert "2 passed" in tests, tests
    assert reader.run("python audit_it.py") == "ok\n"
    assert reader.run("python watch_it.py") == ""

    reader.follow((DOCS / "audit-json.md").read_text())
    assert reader.run("python read_report.py") == "model.py::Model ok\n"


def test_the_page_has_every_kind_with_its_cause_and_cure() -> None:
    page = (DOCS / "audit-findings.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)

    assert rows == [(r.id, r.summary, r.cause, r.fix) for r in RULES.values()]


@pytest.mark.parametrize("name", [*documents()])
def test_the_generated_documents_are_up_to_date(name: str) -> None:
    """If this fails, run `make generate`."""
    assert (DOCS / name).read_text() == documents()[name]


def test_the_command_finds_and_writes_stale_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--docs", str(tmp_path)]
    assert generate.main(folder) == 1
    assert generate.main([*folder, "--write"]) == 0
    assert generate.main(folder) == 0
    assert "audit-findings.md is stale" in capsys.readouterr().out
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == documents()

    with pytest.raises(SystemExit):
        generate.main(["--docs", str(tmp_path / "none"), "--write"])
    assert "argument --docs: no such folder: " in capsys.readouterr().err

    (tmp_path / "audit.schema.json").write_text("{}")
    assert generate.main(folder) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'audit.schema.json'} is stale: ")


@pytest.mark.parametrize("page", sorted(DOCS.glob("audit*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("https://"):
            file, _, heading = link.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), link
            assert not heading or heading in headings(linked), link


def headings(page: Path) -> set[str]:
    """Returns what GitHub makes of each heading for links to it."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("option", re.findall(r"`(--[\w-]+)", (DOCS / "audit.md").read_text()))
def test_every_option_that_the_page_names_is_one(option: str) -> None:
    source = (ROOT / "compile_checks" / "command" / "arguments.py").read_text()

    files = [f"--{name}" for name in ("html", "json", "junit", "markdown", "sarif")]
    assert f'"{option}"' in source or option in files
