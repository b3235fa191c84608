"""The command `python -m compile_checks.survey`."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from compile_checks.command.arguments import backend, positive
from compile_checks.command.execute import CLEAN, INTERRUPTED, USAGE
from compile_checks.command.progress import Progress
from compile_checks.command.runner import quietly, run
from compile_checks.survey.libraries import LIBRARIES, installed
from compile_checks.survey.rows import Store, row_of
from compile_checks.survey.table import render
from compile_checks.survey.tasks import PASSES, Survey


def main(argv: Sequence[str] | None = None) -> int:
    """Surveys what the file of results does not contain, and prints the table of all results.

    Returns:
        The exit status: 0 if the survey is complete, whatever it found; 2 for usage errors; 130 if
        it was interrupted.
    """
    arguments = _parse(argv)
    versions = installed()
    libraries = arguments.library or [name for name in LIBRARIES if name in versions]
    if missing := [name for name in libraries or LIBRARIES if name not in versions]:
        return _error(f"not installed: {', '.join(missing)}")
    try:
        store = Store(arguments.results)
    except ValueError as error:
        return _error(str(error))
    done = frozenset[tuple[str, str]]().union(*(row.done for row in store.rows()))
    survey = Survey(
        tuple(libraries), arguments.only, done, tuple(arguments.passes), arguments.backend
    )
    try:
        with quietly():
            if not survey.everything():
                return _error(f"--only {arguments.only!r} matches no architecture")
            _run(survey, arguments, store)
    except KeyboardInterrupt:
        print("survey: interrupted; the same command continues it", file=sys.stderr)
        return INTERRUPTED
    named = ", ".join(f"{LIBRARIES[name]} {versions[name]}" for name in libraries)
    print(render(store.rows(), f"torch {torch.__version__}, {named}"), end="")
    return CLEAN


def _error(message: str) -> int:
    print(f"survey: error: {message}", file=sys.stderr)
    return USAGE


def _run(survey: Survey, arguments: Namespace, store: Store) -> None:
    tasks = survey.tasks()
    if not tasks:
        print(f"survey: {arguments.results} contains all of them already", file=sys.stderr)
    asked = {task.name: " ".join(task.passes) for task in tasks}
    progress = Progress(len(tasks))
    try:
        run(
            survey.tasks,
            tasks,
            progress,
            jobs=arguments.jobs,
            isolate=arguments.jobs == 1,  # so that the timeout applies
            timeout=arguments.timeout,
            finished=lambda results: store.add(
                replace(row, asked=asked[row.name]) for row in map(row_of, results)
            ),
        )
    finally:
        progress.close()


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="python -m compile_checks.survey",
        usage="%(prog)s FILE [options]",  # `--passes` would take a FILE that follows it
        description="Audits a tiny random instance of every architecture of installed libraries.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "results",
        type=Path,
        metavar="FILE",
        help="rows as lines of JSON; passes that it already contains are not audited again, not "
        "even with another --backend or --timeout: give each combination of them its own file",
    )
    add(
        "--library",
        action="append",
        choices=LIBRARIES,
        help="a library to survey; may be repeated (default: all that are installed)",
    )
    add(
        "--only",
        type=_regex,
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
    add(
        "--backend",
        type=backend,
        default="aot_eager",
        help="as in torch.compile (default: aot_eager)",
    )
    add("--jobs", type=positive, default=1, metavar="N", help="how many processes (default: 1)")
    add(
        "--timeout",
        type=positive,
        default=120,
        metavar="SECONDS",
        help="for all passes of one architecture (default: 120)",
    )
    arguments = parser.parse_args(argv)
    existed = arguments.results.exists()
    try:
        arguments.results.open("a").close()  # fail now, not after the first audit
    except OSError as error:
        parser.error(f"argument FILE: {error}")
    if not existed:
        arguments.results.unlink()  # a survey of nothing leaves no empty file
    return arguments


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ArgumentTypeError(f"invalid regular expression {text!r}: {error}") from None
    return text


if __name__ == "__main__":
    sys.exit(main())
