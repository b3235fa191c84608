"""The command `python -m compile_checks`: audits all of dmask and prints a table."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from compile_checks import report
from compile_checks.cases import builtin_cases, uncovered
from compile_checks.findings import AuditReport, Finding


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 where all is clean, 1 with findings.

    Raises:
        SystemExit: with status 2 for wrong usage.
    """
    parser = _parser()
    file: Path | None = parser.parse_args(argv).json
    if file is not None:
        try:
            file.touch()  # an audit takes a while: a file that cannot be written is said at once
        except OSError as error:
            parser.error(f"argument --json: {error}")
    reports = _audit_all()
    if file is not None:
        file.write_text(report.to_json(reports) + "\n", encoding="utf-8")
    return 0 if all(audited.ok for audited in reports.values()) else 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m compile_checks",
        description="Audits every op and strategy of dmask, its mask helpers and its attention "
        "for graph breaks, recompiles and silent fallbacks of torch.compile.",
        epilog="Exit status: 0 where all is clean, 1 where something was found, 2 for wrong usage.",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the reports to FILE too")
    return parser


def _audit_all() -> dict[str, AuditReport]:
    """Audits all cases, and prints each as it is done."""
    cases = builtin_cases()
    reports: dict[str, AuditReport] = {}
    print(report.header())
    for name in uncovered(cases):
        finding = Finding("missing-case", f"no case in compile_checks/cases.py covers {name}")
        reports[name] = AuditReport(findings=(finding,))
        print(report.row(name, reports[name]))
    for case in cases:
        reports[case.name] = case.run()
        print(report.row(case.name, reports[case.name]), flush=True)
    print(report.summary(reports))
    return reports


if __name__ == "__main__":
    sys.exit(main())
