"""The command line: what it takes, and what is wrong with it before any work."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import torch._dynamo

from compile_checks._engine.gates import GATES
from compile_checks.outputs import FILE_FORMATS

_DAYS = 90
"""How long a new entry of a baseline is accepted."""
_DESCRIPTION = """\
Audits code for graph breaks, recompiles and silent fallbacks of torch.compile.

A target is path/to/file.py::name or package.module:name, where name is a function or a
torch.nn.Module, with `example_inputs` beside it, or a function without parameters that returns
(callable, inputs) or a list of cases. Without a target, all of this project is audited.
"""
_EPILOG = "Exit status: 0 where all is clean, 1 where something was found, 2 for wrong usage."


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The arguments.

    Raises:
        SystemExit: with status 2 for wrong usage.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check(parser, arguments)
    return arguments


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m compile_checks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("target", nargs="*", help="what to audit")
    _add_modes(parser)
    _add_running(parser)
    _add_files(parser)
    _add_baseline(parser)
    return parser


def _add_modes(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how to compile (default: as each case says)")
    group.add_argument("--mode", choices=("default", "fullgraph", "all"))
    group.add_argument("--dynamic", choices=("auto", "true", "false", "all"))
    group.add_argument("--backward", action="store_true", default=None, help="forward and backward")
    group.add_argument("--backend", type=_backend, help="of torch.compile (default: aot_eager)")
    group.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        help="how many graphs the calls of a case may cost together, recompiles included "
        "(default: as many as its code needs, but no recompile)",
    )
    group.add_argument(
        "--gate",
        action="append",
        default=[],
        choices=GATES,
        help="check this too; can be given several times",
    )


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how to run")
    group.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="processes that share the cases"
    )
    group.add_argument("--isolate", action="store_true", help="a process for each case")
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="end a case that takes longer, the start of its process included, as a finding; "
        "needs --isolate or --jobs from 2 on, for only a process can be ended",
    )


def _add_files(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what to write beside the table")
    for name in FILE_FORMATS:
        group.add_argument(f"--{name}", type=Path, metavar="FILE")


def _add_baseline(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("findings that are accepted for now")
    group.add_argument("--baseline", type=Path, metavar="FILE", help="what it lists passes")
    group.add_argument(
        "--update-baseline", action="store_true", help="make it list what is found in this run"
    )
    group.add_argument("--reason", help="why new findings are accepted")
    group.add_argument(
        "--expires",
        type=_day,
        default=date.today() + timedelta(days=_DAYS),
        metavar="YYYY-MM-DD",
        help=f"the last day on which new findings are accepted (default: in {_DAYS} days)",
    )


def _check(parser: ArgumentParser, arguments: Namespace) -> None:
    if arguments.timeout is not None and not arguments.isolate and arguments.jobs == 1:
        parser.error("argument --timeout: needs --isolate or --jobs from 2 on")
    if arguments.update_baseline and arguments.baseline is None:
        parser.error("argument --update-baseline: needs --baseline FILE")
    if arguments.update_baseline and not arguments.reason:
        parser.error("argument --update-baseline: needs --reason, for the findings that are new")
    if arguments.update_baseline and not arguments.baseline.parent.is_dir():
        parser.error(f"argument --baseline: there is no folder {arguments.baseline.parent}")
    if arguments.reason is not None and not arguments.update_baseline:
        parser.error("argument --reason: goes with --update-baseline")
    if arguments.expires < date.today():
        parser.error(f"argument --expires: {arguments.expires} has passed")
    for name in FILE_FORMATS:
        file: Path | None = getattr(arguments, name)
        if file is not None:
            try:
                file.open("a").close()  # an audit takes a while: what cannot be written is said now
            except OSError as error:
                parser.error(f"argument --{name}: {error}")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a day as YYYY-MM-DD, got {text!r}") from None


def _backend(text: str) -> str:
    known = torch._dynamo.list_backends(exclude_tags=())
    if text not in known:
        raise ArgumentTypeError(f"unknown backend {text!r}; expected one of {', '.join(known)}")
    return text
