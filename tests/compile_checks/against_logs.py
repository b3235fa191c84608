"""Compares audits of real models with PyTorch's own log, which this file parses by itself.

    python -m tests.compile_checks.against_logs [--library timm] [--only REGEX] [--every N]

Each model is compiled and called in one process with `TORCH_LOGS=graph_breaks,recompiles`, and
audited in another. Both must have the same breaks and recompiles: how many, where, and why. It takes
about 20 s per model, so it is not a test that CI runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compile_checks.survey.libraries import LIBRARIES, installed, library

ROOT = Path(__file__).parents[2]
LOGS = {"TORCH_LOGS": "graph_breaks,recompiles", "TORCHDYNAMO_VERBOSE": "1"}  # verbose: all of them
_PREFIX = re.compile(r"^[VWIE]\d{4} [\d:.]+ \d+ \S+\] (?:\[[\w/]+\] )?\[__(?P<log>\w+)\] ?")
_BREAK = re.compile(r"Graph break in user code at (?P<file>.+):(?P<line>\d+)$")
_REASON = re.compile(r"Graph Break Reason: (?P<reason>.*)$")
_RECOMPILE = re.compile(r"Recompiling function (?P<name>\S+) in (?P<file>.+):(?P<line>\d+)$")
PASSES = ("forward", "training")


# ------------------------------------------------------------------ in the child processes


def model_and_calls(name: str, run: str) -> tuple[Any, Any]:
    """Builds a model as the survey does, and calls it once without compiling."""
    import torch

    torch.manual_seed(0)
    kind, _, architecture = name.partition("/")
    instance = library(kind).build(architecture)
    model, calls = instance.model, instance.calls
    model.train(run == "training").requires_grad_(run == "training")
    for args, kwargs in calls:
        model(*args, **kwargs)
    return model, calls


def call_plainly(name: str, run: str) -> dict[str, Any]:
    """Compiles a model and calls it twice. PyTorch writes its log to standard error."""
    import torch

    model, calls = model_and_calls(name, run)
    print(f"begin {run}", file=sys.stderr, flush=True)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")
    for number in range(2):
        for args, kwargs in calls:
            torch.manual_seed(number)
            result = compiled(*args, **kwargs)
            if run == "training":
                sum(tensor.float().sum() for tensor in tensors_in(result)).backward()
    return {}


def tensors_in(result: Any) -> list[Any]:
    """Returns the tensors of a result that require gradients."""
    import torch
    from torch.utils import _pytree

    values = result.to_tuple() if hasattr(result, "to_tuple") else result
    leaves = _pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]


def audit_it(name: str, run: str) -> dict[str, Any]:
    """Returns the breaks and recompiles that the audit finds."""
    from compile_checks import audit_calls

    model, calls = model_and_calls(name, run)
    report = audit_calls(model, calls, backward=run == "training", compare=False)
    breaks = [[b.file, b.line, b.reason.splitlines()[0].strip()] for b in report.graph_breaks]
    again = [[r.file, r.line, r.frame] for r in report.recompiles]
    findings = [[f.kind, str(f)] for f in report.findings]
    return {"breaks": breaks, "recompiles": again, "findings": findings}


def run_child(what: str, name: str, runs: list[str]) -> None:
    """Prints a line of JSON for each pass."""
    for run in runs:
        try:
            result = globals()[what](name, run)
        except Exception as error:  # models that need other inputs, or that cannot be compiled
            result = {"failed": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
        print(json.dumps(result), flush=True)


# ------------------------------------------------------------------ in the parent process


def child(what: str, name: str, runs: list[str], **environment: str) -> tuple[list[Any], str]:
    """Runs a function above in another process. Returns its results and its log."""
    code = f"from tests.compile_checks import against_logs as a; a.run_child({what!r}, {name!r}, {runs})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    crashed = {"failed": f"exit status {done.returncode}"}
    return [*results, *[crashed] * len(runs)][: len(runs)], done.stderr


Log = list[tuple[str, int, str]]


def read_log(log: str) -> tuple[Log, Log]:
    """Returns the breaks (file, line, reason) and the recompiles (file, line, function)."""
    breaks: Log = []
    again: Log = []
    place, reason_follows = ("", 0), False
    for line in log.splitlines():
        prefix = _PREFIX.match(line)
        if prefix is None:
            continue
        text = line[prefix.end() :]
        if reason_follows and text.strip():
            breaks.append((*place, text.strip()))
            reason_follows = False
        elif found := _BREAK.search(text):
            place = (found["file"], int(found["line"]))
        elif found := _REASON.search(text):
            # What Dynamo was doing comes first in some entries, and then the reason.
            reason_follows = found["reason"].endswith(":")
            if not reason_follows:
                breaks.append((*place, found["reason"].strip()))
        elif found := _RECOMPILE.search(text):
            again.append((found["file"], int(found["line"]), found["name"]))
    return breaks, again


def compared(name: str, runs: list[str]) -> Iterator[tuple[str, str]]:
    """Yields the passes of a model, and how the audit and the log differ."""
    plain, log = child("call_plainly", name, runs, **LOGS)
    audited, _ = child("audit_it", name, runs)
    for run, without, found in zip(runs, plain, audited, strict=True):
        part = log.partition(f"begin {run}\n")[2].partition("begin ")[0]
        if "failed" in without or "failed" in found:
            same = without.get("failed") == found.get("failed")
            yield run, f"{'skipped' if same else 'DIFFERENT'}: {without} | {found}"[:300]
            continue
        problems = [*differences(*read_log(part), found)]
        counts = f"{len(found['breaks'])} breaks, {len(found['recompiles'])} recompiles"
        yield run, f"DIFFERENT: {problems}" if problems else f"equal: {counts}"


def differences(breaks: Log, again: Log, audited: dict[str, Any]) -> Iterator[str]:
    """Yields how an audit differs from the log."""
    reasons = Counter(reason for *_, reason in breaks)
    found = Counter(reason for *_, reason in audited["breaks"])
    if reasons != found:
        yield f"reasons: log {reasons - found}, audit {found - reasons}"
    places = Counter((file, line) for file, line, _ in breaks if not is_torch(file))
    placed = Counter((file, line) for file, line, _ in audited["breaks"])
    if places - placed:
        yield f"places that only the log has: {places - placed}"
    frames, framed = Counter(again), Counter(map(tuple, audited["recompiles"]))
    if frames != framed:
        yield f"recompiles: log {frames - framed}, audit {framed - frames}"
    if not breaks and not again and audited["findings"]:
        yield f"findings without a line in the log: {audited['findings']}"


def is_torch(file: str) -> bool:
    """True for PyTorch's and Python's files: there, the audit names the caller's line."""
    return "/site-packages/torch/" in file or "site-packages" not in file


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.compile_checks.against_logs")
    parser.add_argument("--library", action="append", choices=LIBRARIES)
    parser.add_argument("--only", default="")
    parser.add_argument("--every", type=int, default=1, help="only each N-th architecture")
    parser.add_argument("--passes", nargs="+", default=list(PASSES))
    options = parser.parse_args()
    names = [
        f"{kind}/{name}"
        for kind in options.library or installed()
        for name in library(kind).names()
        if re.search(options.only, f"{kind}/{name}")
    ]
    totals: Counter[str] = Counter()
    for name in names[:: options.every]:
        for run, line in compared(name, options.passes):
            totals[line.partition(":")[0]] += 1
            print(f"{name}, {run}: {line}", flush=True)
    print(dict(totals))
    return 0


if __name__ == "__main__":
    sys.exit(main())
