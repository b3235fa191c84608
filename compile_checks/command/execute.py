"""Executes the command with its arguments: audits, prints a table and writes reports."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from compile_checks import outputs
from compile_checks._engine.results import Results
from compile_checks.command import against, config, diff, owners, suppressions
from compile_checks.command.against import AgainstError
from compile_checks.command.baseline import Baseline, BaselineError
from compile_checks.command.config import ConfigError
from compile_checks.command.plan import Options, Plan, Target
from compile_checks.command.program import program_of, watched
from compile_checks.command.progress import Progress
from compile_checks.command.runner import quietly, run
from compile_checks.command.targets import TargetError

CLEAN, FOUND, USAGE, INTERRUPTED = 0, 1, 2, 130


def execute(arguments: Namespace) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 if there are no findings, or that of a watched program; 1 if there are
        findings, 2 if the configuration, a target or a baseline cannot be loaded, 130 if the run
        was interrupted.
    """
    try:
        baseline, status = _baseline(arguments), CLEAN
        if arguments.watch:
            limits = _options(arguments).limits
            results, status = watched(program_of(arguments.watch), arguments.budget, limits)
            cases = (case.ignoring(arguments.ignore) for case in results.cases)
            results = replace(results, cases=tuple(cases))
        else:
            with quietly():
                results = _audited(_plan(arguments), arguments)
    except (ConfigError, TargetError, BaselineError) as error:
        print(f"compile_checks: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return _interrupted()
    results = owners.only(suppressions.judge(results), arguments.owner)
    if arguments.update_baseline:
        baseline = baseline.updated(
            results, reason=arguments.reason, expires=arguments.expires, today=date.today()
        )
        baseline.save(arguments.baseline)
    unjudged = results
    results = baseline.judge(results, today=date.today())
    _show(results, arguments)
    if arguments.against_torch is not None:
        try:
            status = max(status, _against(unjudged, arguments))
        except AgainstError as error:
            print(f"compile_checks: error: {error}", file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            return _interrupted()
    return status if results.ok else FOUND


def _interrupted() -> int:
    print("compile_checks: interrupted", file=sys.stderr)
    return INTERRUPTED


def _against(results: Results, arguments: Namespace) -> int:
    """Prints what differs with another release. Returns 1 if findings are new there."""
    other = against.results_of(arguments.against_torch, arguments)
    found = [*diff.changes(results, other)]
    print(f"\n{diff.rendered(results, other, found)}", end="")
    return FOUND if any(change.what == "new" for change in found) else CLEAN


def _baseline(arguments: Namespace) -> Baseline:
    """Loads the baseline. With `--update-baseline`, the file does not have to exist."""
    file: Path | None = arguments.baseline
    if file is None or (arguments.update_baseline and not file.exists()):
        return Baseline()
    return Baseline.load(file)


def _plan(arguments: Namespace) -> Plan:
    """Returns the plan. Targets on the command line replace the project's whole table; options
    replace those of the table.
    """
    options = _options(arguments)
    if arguments.target:
        targets = tuple(Target(name, options) for name in arguments.target)
        return Plan(targets, arguments.required or "")
    table = config.nearest(Path.cwd())
    targets = tuple(Target(name, options.over(own)) for name, own in table.targets)
    root = table.file.parent
    if arguments.required:
        return Plan(targets, arguments.required, root)
    return Plan(targets, table.required, root, required_root=root)


def _options(arguments: Namespace) -> Options:
    return Options(
        mode=arguments.mode,
        dynamic=arguments.dynamic,
        backward=arguments.backward,
        backend=arguments.backend,
        budget=arguments.budget,
        max_entries=arguments.max_entries,
        max_guards=arguments.max_guards,
        max_seconds=arguments.max_seconds,
        time=arguments.time,
        gates=tuple(arguments.gate),
        ignore=tuple(arguments.ignore),
    )


def _audited(plan: Plan, arguments: Namespace) -> Results:
    tasks = plan.tasks()
    missing = plan.missing(tasks)
    progress = Progress(len(tasks))
    try:
        audited = run(
            plan.tasks,
            tasks,
            progress,
            jobs=arguments.jobs,
            isolate=arguments.isolate,
            timeout=arguments.timeout,
        )
    finally:
        progress.close()
    return Results((*missing, *audited), torch.__version__)


def _show(results: Results, arguments: Namespace) -> None:
    color = _wants_color(sys.stdout.isatty(), os.environ)
    print(outputs.terminal.Table(color=color, frames=arguments.frames).render(results), end="")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(outputs.github.render(results), end="")
    for name, render in outputs.FILE_FORMATS.items():
        if (file := getattr(arguments, name)) is not None:
            file.write_text(render(results), encoding="utf-8")


def _wants_color(terminal: bool, environ: Mapping[str, str]) -> bool:
    """True if output should have color, according to https://no-color.org.

    >>> _wants_color(True, {}), _wants_color(True, {"NO_COLOR": "1"}), _wants_color(False, {})
    (True, False, False)
    """
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
