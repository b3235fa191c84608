"""The command `python -m compile_checks.survey`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from compile_checks.command.arguments import positive
from compile_checks.command.progress import Progress
from compile_checks.command.runner import quietly, run
from compile_checks.survey.libraries import LIBRARIES, installed
from compile_checks.survey.rows import Store, row_of
from compile_checks.survey.table import render
from compile_checks.survey.tasks import PASSES, Survey


def main(argv: Sequence[str] | None = None) -> int:
    """Surveys what the file of results does not contain, and prints the table of all results."""
    arguments = _parse(argv)
    versions = installed()
    chosen = [name for name in arguments.library or LIBRARIES if name in versions]
    if not chosen:
        wanted = ", ".join(arguments.library or LIBRARIES)
        print(f"survey: error: none of these is installed: {wanted}", file=sys.stderr)
        return 2
    store = Store(arguments.results)
    done = frozenset(row.name for row in store.rows())
    survey = Survey(tuple(chosen), arguments.only, done, tuple(arguments.passes), arguments.backend)
    with quietly():
        _run(survey, arguments, store)
    named = ", ".join(f"{LIBRARIES[name]} {versions[name]}" for name in chosen)
    print(render(store.rows(), f"torch {torch.__version__}, {named}"), end="")
    return 0


def _run(survey: Survey, arguments: Namespace, store: Store) -> None:
    tasks = survey.tasks()
    progress = Progress(len(tasks))
    try:
        run(
            survey.tasks,
            tasks,
            progress,
            jobs=arguments.jobs,
            isolate=arguments.jobs == 1,  # so that the timeout applies
            timeout=arguments.timeout,
            finished=lambda results: store.add(map(row_of, results)),
        )
    finally:
        progress.close()


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="python -m compile_checks.survey",
        description="Audits a tiny random instance of every architecture of installed libraries.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "results",
        type=Path,
        metavar="FILE",
        help="rows as lines of JSON; what it already contains is not surveyed again",
    )
    add(
        "--library",
        action="append",
        choices=LIBRARIES,
        help="a library to survey; may be repeated (default: all that are installed)",
    )
    add(
        "--only",
        default="",
        metavar="REGEX",
        help="survey only names that it matches, such as transformers/llama",
    )
    add(
        "--passes",
        nargs="+",
        choices=PASSES,
        default=["forward", "decode"],
        help="what to audit (default: forward decode)",
    )
    add("--backend", default="aot_eager", help="as in torch.compile (default: aot_eager)")
    add("--jobs", type=positive, default=1, metavar="N", help="how many processes (default: 1)")
    add(
        "--timeout",
        type=positive,
        default=120,
        metavar="SECONDS",
        help="for all passes of one architecture (default: 120)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
