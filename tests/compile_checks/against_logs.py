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


def call_plainly(name: str, run: str) -> None:
    """Compiles a model and calls it twice. PyTorch writes its log to standard error."""
    import torch

    try:
        model, calls = model_and_calls(name, run)
    except Exception as error:
        print(json.dumps({"skipped": f"{type(error).__name__}: {error}"}))
        return
    print("begin", file=sys.stderr)
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        for args, kwargs in calls:
            torch.manual_seed(0)
            result = compiled(*args, **kwargs)
            if run == "training":
                sum(tensor.float().sum() for tensor in tensors_in(result)).backward()
    print(json.dumps({}))


def tensors_in(result: Any) -> list[Any]:
    """Returns the tensors of a result that require gradients."""
    import torch
    from torch.utils import _pytree

    values = result.to_tuple() if hasattr(result, "to_tuple") else result
    leaves = _pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]


def audit_it(name: str, run: str) -> None:
    """Prints the breaks and recompiles that the audit finds."""
    from compile_checks import audit_calls

    model, calls = model_and_calls(name, run)
    report = audit_calls(model, calls, backward=run == "training", compare=False)
    breaks = [[b.file, b.line, b.reason.splitlines()[0].strip()] for b in report.graph_breaks]
    again = [[r.file, r.line, r.frame] for r in report.recompiles]
    findings = [[f.kind, str(f)] for f in report.findings]
    print(json.dumps({"breaks": breaks, "recompiles": again, "findings": findings}))


# ------------------------------------------------------------------ in the parent process


def child(what: str, name: str, run: str, **environment: str) -> tuple[dict[str, Any], str]:
    """Runs one of the functions above. Returns what it printed, and its log."""
    code = f"from tests.compile_checks import against_logs as a; a.{what}({name!r}, {run!r})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"failed": done.stderr.strip().splitlines()[-1:]}, ""
    return json.loads(lines[-1]), done.stderr.partition("begin\n")[2]


def read_log(log: str) -> tuple[list[tuple[str, int, str]], list[tuple[str, int, str]]]:
    """Returns the breaks (file, line, reason) and the recompiles (file, line, function)."""
    breaks, again, place = [], [], ("", 0)
    for line in log.splitlines():
        prefix = _PREFIX.match(line)
        if prefix is None:
            continue
        text = line[prefix.end() :]
        if found := _BREAK.search(text):
            place = (found["file"], int(found["line"]))
        elif found := _REASON.search(text):
            breaks.append((*place, found["reason"].strip()))
        elif found := _RECOMPILE.search(text):
            again.append((found["file"], int(found["line"]), found["name"]))
    return breaks, again


def differences(name: str, run: str) -> list[str]:
    """Returns how the audit and the log differ, or one line that says why it was skipped."""
    plain, log = child("call_plainly", name, run, **LOGS)
    if "skipped" in plain or "failed" in plain:
        return [f"skipped: {plain}"[:200]]
    audited, _ = child("audit_it", name, run)
    if "failed" in audited:
        return [f"the audit failed: {audited}"]
    breaks, again = read_log(log)
    texts = [f"log {len(breaks)} breaks, audit {len(audited['breaks'])}"]
    reasons = Counter(reason for *_, reason in breaks)
    found = Counter(reason for *_, reason in audited["breaks"])
    problems = [texts[0]] if len(breaks) != len(audited["breaks"]) else []
    problems += [f"reasons: log {reasons - found}, audit {found - reasons}"] * (reasons != found)
    places = Counter((file, line) for file, line, _ in breaks if not is_torch(file))
    placed = Counter((file, line) for file, line, _ in audited["breaks"])
    problems += [f"places that only the log has: {places - placed}"] * bool(places - placed)
    frames, framed = Counter(again), Counter(map(tuple, audited["recompiles"]))
    problems += [f"recompiles: log {frames}, audit {framed}"] * (frames != framed)
    if not breaks and not again and audited["findings"]:
        problems.append(f"findings without a line in the log: {audited['findings']}")
    return problems or [f"equal: {len(breaks)} breaks, {len(again)} recompiles"]


def is_torch(file: str) -> bool:
    """True for PyTorch's files: there, the audit names the caller's line."""
    return "/site-packages/torch/" in file or "/lib/python3" in file.replace("site-packages", "")


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
        for run in options.passes:
            for line in differences(name, run):
                totals[line.partition(":")[0]] += 1
                print(f"{name}, {run}: {line}", flush=True)
    print(dict(totals))
    return 0


if __name__ == "__main__":
    sys.exit(main())
