"""Parses the command line and checks it before any work is done."""

from __future__ import annotations

from argparse import (
    REMAINDER,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from compile_checks._engine.gates import GATES
from compile_checks.outputs import FILE_FORMATS
from compile_checks.rules import KINDS

MODES, DYNAMIC = ("default", "fullgraph", "all"), ("auto", "true", "false", "all")
_OF_PROGRAMS = {
    "watch",
    "budget",
    "baseline",
    "owner",
    "ignore",
    "max_entries",
    "max_guards",
    "max_seconds",
    "frames",
    "update_baseline",
    "reason",
    "expires",
    *FILE_FORMATS,
}
"""The options that apply to a program. The others are about cases, which it does not have."""
_DAYS = 90
"""The number of days for which a new baseline entry is accepted."""
_DESCRIPTION = """\
Finds graph breaks, recompiles and silent fallbacks of torch.compile.

A target is path/to/file.py::name or package.module:name. The name is a function
or a torch.nn.Module whose file defines `example_inputs`, or a function without
parameters that returns (callable, inputs) or a list of cases. Without a target,
the command audits the targets in the table [tool.compile_checks] of the nearest
pyproject.toml. With --watch, it runs a program and reports what that compiled.
`diff OLD NEW` compares two reports written with --json.
"""
_EPILOG = """\
Exit status: 0 for no findings, 1 for findings, 2 for usage errors. With --watch
and no findings, it is that of the program. With --against-torch, findings that
are new with the other release count too.
"""


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """Returns the arguments.

    Raises:
        SystemExit: with status 2 for usage errors.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check(parser, arguments)
    if arguments.timeout is not None and arguments.jobs == 1:
        arguments.isolate = True
    return arguments


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m compile_checks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "target", nargs="*", help="what to audit (default: the targets in pyproject.toml)"
    )
    parser.add_argument(
        "--required",
        metavar="MODULE:CALLABLE",
        help="callable that returns names; each must be the `covers` of some case",
    )
    parser.add_argument(
        "--watch",
        nargs=REMAINDER,
        metavar="FILE ...",
        help="run `FILE ARGS...` or `-m MODULE ARGS...` as python does, and report what it "
        "compiled when it ends or is interrupted; must be the last option",
    )
    _against(parser)
    _add_modes(parser)
    _add_running(parser)
    _add_files(parser)
    _add_baseline(parser)
    return parser


def _add_modes(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how to compile (default: as defined by each case)")
    group.add_argument("--mode", choices=MODES)
    group.add_argument("--dynamic", choices=DYNAMIC)
    group.add_argument(
        "--backward", action="store_true", default=None, help="also audit the backward pass"
    )
    group.add_argument(
        "--backend", type=backend, help="backend of torch.compile (default: aot_eager)"
    )
    group.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        help="maximum number of graphs that the calls of a case may compile in total, recompiles "
        "included (default: any number of graphs, but no recompiles)",
    )
    group.add_argument(
        "--max-entries",
        type=positive,
        metavar="N",
        help="maximum number of compilations of a function",
    )
    group.add_argument(
        "--max-guards", type=positive, metavar="N", help="maximum number of guards of a function"
    )
    group.add_argument(
        "--max-seconds",
        type=_seconds,
        metavar="S",
        help="maximum number of seconds that all compilations of a function take",
    )
    group.add_argument(
        "--gate",
        action="append",
        default=[],
        choices=GATES,
        help="also run this check; may be repeated",
    )


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how to run")
    group.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of worker processes"
    )
    group.add_argument("--isolate", action="store_true", help="run each case in its own process")
    group.add_argument(
        "--time",
        action="store_true",
        default=None,
        help="then make the calls several times more, and report how much of a call's time is in "
        "Python at each graph break",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="kill a case that takes longer and report it as a finding; implies --isolate, unless "
        "--jobs is given, because only a worker process can be killed",
    )


def _against(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--against-torch",
        metavar="RELEASE",
        help="then audit with another release of PyTorch, such as 2.15.0, or with another "
        "interpreter, and print what is new, gone and moved there",
    )


def _add_files(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--frames",
        action="store_true",
        help="also print each compiled function, with its ops, guards and seconds",
    )
    group = parser.add_argument_group("reports to write in addition to the table")
    for name in FILE_FORMATS:
        group.add_argument(f"--{name}", type=Path, metavar="FILE")


def _add_baseline(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("known findings")
    group.add_argument(
        "--baseline", type=Path, metavar="FILE", help="accept the findings listed in FILE"
    )
    group.add_argument(
        "--update-baseline",
        action="store_true",
        help="write the findings of this run to the baseline",
    )
    group.add_argument(
        "--owner",
        action="append",
        default=[],
        help="report only findings in the code of this owner: `yours`, `torch`, or a package; may "
        "be repeated",
    )
    group.add_argument(
        "--ignore",
        action="append",
        default=[],
        choices=sorted(KINDS),
        metavar="KIND",
        help="findings of this kind do not count, such as cudagraph-skip; may be repeated",
    )
    group.add_argument("--reason", help="reason for accepting new findings")
    group.add_argument(
        "--expires",
        type=_day,
        default=date.today() + timedelta(days=_DAYS),
        metavar="YYYY-MM-DD",
        help=f"last day on which new findings are accepted (default: in {_DAYS} days)",
    )


def _check_watch(parser: ArgumentParser, arguments: Namespace) -> None:
    if arguments.watch is None:
        return
    if not arguments.watch or arguments.watch == ["-m"]:
        parser.error("argument --watch: expected FILE ARGS... or -m MODULE ARGS...")
    given = {
        name
        for name, value in vars(arguments).items()
        if value not in (parser.get_default(name), [])
    }
    others = sorted(given - _OF_PROGRAMS)
    if others:
        option = "target" if others[0] == "target" else f"--{others[0]}"
        parser.error(
            f"argument {option}: not allowed with --watch, which runs the program as it is"
        )


def _check(parser: ArgumentParser, arguments: Namespace) -> None:
    _check_watch(parser, arguments)
    if arguments.update_baseline and arguments.baseline is None:
        parser.error("argument --update-baseline: requires --baseline FILE")
    if arguments.update_baseline and not arguments.reason:
        parser.error("argument --update-baseline: requires --reason for new findings")
    if arguments.update_baseline and not arguments.baseline.parent.is_dir():
        parser.error(f"argument --baseline: no such folder: {arguments.baseline.parent}")
    if arguments.reason is not None and not arguments.update_baseline:
        parser.error("argument --reason: requires --update-baseline")
    if arguments.expires < date.today():
        parser.error(f"argument --expires: expected today or later, got {arguments.expires}")
    for name in FILE_FORMATS:
        file: Path | None = getattr(arguments, name)
        if file is not None:
            existed = file.exists()
            try:
                file.open("a").close()  # fail now, not after a long audit
            except OSError as error:
                parser.error(f"argument --{name}: {error}")
            if not existed:
                file.unlink()  # a run that ends early leaves no empty report


def positive(text: str) -> int:
    """Parses a positive integer from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a date as YYYY-MM-DD, got {text!r}") from None


def backend(text: str) -> str:
    """Parses the name of a backend."""
    from compile_checks import _compat  # imports torch

    known = _compat.backend_names()
    if known and text not in known:
        raise ArgumentTypeError(f"unknown backend {text!r}; expected one of {', '.join(known)}")
    return text
