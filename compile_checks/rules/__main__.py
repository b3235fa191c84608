"""The command `python -m compile_checks.rules`: generates the documents that list all rules."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

from compile_checks.outputs._schema import schema
from compile_checks.rules._page import page

DOCS = Path(__file__).parents[2] / "docs"


def documents() -> Mapping[str, str]:
    """Returns the generated documents by file name."""
    return {
        "audit-findings.md": page(),
        "audit.schema.json": json.dumps(schema(), indent=2) + "\n",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the documents, or returns 1 if any is stale."""
    parser = ArgumentParser(
        prog="python -m compile_checks.rules",
        description="Checks that the documents generated from the rules are up to date.",
        allow_abbrev=False,
    )
    parser.add_argument("--write", action="store_true", help="write the documents instead")
    parser.add_argument(
        "--docs", type=Path, default=DOCS, help="folder of the documents (default: docs)"
    )
    arguments = parser.parse_args(argv)
    if not arguments.docs.is_dir():
        parser.error(f"argument --docs: no such folder: {arguments.docs}")
    stale = False
    for name, text in documents().items():
        file: Path = arguments.docs / name
        if arguments.write:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            print(f"{file} is stale: run python -m compile_checks.rules --write")
            stale = True
    return int(stale)


if __name__ == "__main__":
    raise SystemExit(main())
