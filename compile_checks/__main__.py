"""The command `python -m compile_checks`: audits targets, prints a table and writes reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from compile_checks.command import diff
from compile_checks.command.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns the exit status of `execute` or of `diff`.

    Raises:
        SystemExit: with status 2 for usage errors.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["diff"]:
        return diff.main(argv[1:])
    arguments = parse(argv)
    from compile_checks.command.execute import execute  # imports torch, which takes seconds

    return execute(arguments)


if __name__ == "__main__":
    sys.exit(main())
