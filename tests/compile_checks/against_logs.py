"""Compares audits of real models with PyTorch's own log, which this file parses by itself.

    python -m tests.compile_checks.against_logs [--library timm] [--only REGEX] [--all] [--every N]

Each model is compiled and called in one process with `TORCH_LOGS=graph_breaks,recompiles`, and
audited in another. Both must have the same breaks and recompiles: how many, where, and why. It takes
about 30 s per model, so it is not a test that CI runs. Without `--all`, it compares the models of
`SAMPLE`. `docs/audit-against-log.md` shows the result.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from compile_checks.survey.libraries import LIBRARIES, installed, library

ROOT = Path(__file__).parents[2]
LOGS = {"TORCH_LOGS": "graph_breaks,recompiles", "TORCHDYNAMO_VERBOSE": "1"}  # verbose: all of them
_PREFIX = re.compile(r"^[VWIE]\d{4} [\d:.]+ \d+ \S+\] (?:\[[\w/]+\] )?\[__(?P<log>\w+)\] ?")
_BREAK = re.compile(r"Graph break in user code at (?P<file>.+):(?P<line>\d+)$")
_REASON = re.compile(r"Graph Break Reason: (?P<reason>.*)$")
_RECOMPILE = re.compile(r"Recompiling function (?P<name>\S+) in (?P<file>.+):(?P<line>\d+)$")
_GUARD = re.compile(r"^\s*- (?P<guard>\d+/\d+: .+)$")
_ADDRESS = re.compile(r"\d{9,}")  # of objects in guards: each process has its own
PASSES = ("forward", "training")

SAMPLE: Final = {
    "transformers": """
        bert roberta distilbert albert electra deberta-v2 xlnet funnel gpt2 gpt_neox llama qwen2 qwen3
        qwen3_moe mistral mixtral gemma2 gemma3_text opt phi phi3 falcon bloom mpt olmo2 mamba t5 bart
        whisper wav2vec2 vit beit deit dinov2 swinv2 convnext resnet segformer clip siglip
        conditional_detr ctrl fastspeech2_conformer flaubert higgs_audio_v2 led longformer longt5 mra
        openai_privacy_filter seamless_m4t switch_transformers vits xlm
    """,  # popular ones first, then those with breaks or recompiles
    "timm": """
        resnet convnext efficientnet mobilenetv3 vision_transformer deit swin_transformer coat densenet
        regnet hgnet fastvit mlp_mixer nfnet sequencer
    """,
}
"""The architectures to compare. Of the other libraries, all that the survey knows."""


# ------------------------------------------------------------------ in the child processes


def model_and_calls(name: str, run: str) -> tuple[Any, Any]:
    """Builds a model as the survey does, and calls it once without compiling."""
    seed(0)
    kind, _, architecture = name.partition("/")
    instance = library(kind).build(architecture)
    model, calls = instance.model, instance.calls
    model.train(run == "training").requires_grad_(run == "training")
    for args, kwargs in calls:
        model(*args, **kwargs)
    return model, calls


def seed(number: int) -> None:
    """Seeds all generators that models draw from."""
    import numpy as np
    import torch

    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def call_plainly(name: str, run: str) -> dict[str, Any]:
    """Compiles a model and calls it twice. PyTorch writes its log to standard error."""
    import torch

    model, calls = model_and_calls(name, run)
    print(f"begin {run}", file=sys.stderr, flush=True)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")
    for number in range(2):
        for args, kwargs in calls:
            seed(number)
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
    again = [[r.file, r.line, r.frame, *guards(r.reasons)] for r in report.recompiles]
    findings = [[f.kind, str(f)] for f in report.findings]
    return {"breaks": breaks, "recompiles": again, "findings": findings}


def guards(reasons: Iterable[str]) -> list[str]:
    """Returns the failed guards of a recompile, each with the compilation that it belongs to."""
    return sorted(_ADDRESS.sub("...", reason.splitlines()[0].strip()) for reason in reasons)


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


Break = tuple[str, int, str]
Recompiled = tuple[Any, ...]


def read_log(log: str) -> tuple[list[Break], list[Recompiled]]:
    """Returns the breaks (file, line, reason) and the recompiles (file, line, function, guards)."""
    breaks: list[Break] = []
    again: list[tuple[str, int, str, list[str]]] = []
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
            again.append((found["file"], int(found["line"]), found["name"], []))
        elif prefix["log"] == "recompiles" and (found := _GUARD.search(text)):
            again[-1][-1].append(found["guard"])
    return breaks, [(*frame, *guards(failed)) for *frame, failed in again]


class Comparison(NamedTuple):
    """One pass of a model."""

    run: str
    outcome: Literal["equal", "skipped", "different"]
    text: str
    breaks: int = 0
    recompiles: int = 0


def compared(name: str, runs: list[str]) -> Iterator[Comparison]:
    """Compares the audit of each pass with the log."""
    plain, log = child("call_plainly", name, runs, **LOGS)
    audited, _ = child("audit_it", name, runs)
    for run, without, found in zip(runs, plain, audited, strict=True):
        part = log.partition(f"begin {run}\n")[2].partition("begin ")[0]
        if "failed" in without or "failed" in found:
            same = without.get("failed") == found.get("failed")
            text = f"{without} | {found}"[:300]
            yield Comparison(run, "skipped" if same else "different", text)
            continue
        problems = [*differences(*read_log(part), found)]
        breaks, again = len(found["breaks"]), len(found["recompiles"])
        text = str(problems) if problems else f"{breaks} breaks, {again} recompiles"
        yield Comparison(run, "different" if problems else "equal", text, breaks, again)


def differences(
    breaks: list[Break], again: list[Recompiled], audited: dict[str, Any]
) -> Iterator[str]:
    """Yields how an audit differs from the log."""
    reasons = Counter(reason for *_, reason in breaks)
    found = Counter(reason for *_, reason in audited["breaks"])
    if reasons != found:
        yield f"reasons: log {reasons - found}, audit {found - reasons}"
    placed = Counter(found for found in breaks if not is_torch(found[0]))
    if missing := placed - Counter(map(tuple, audited["breaks"])):
        yield f"places: log {missing}"
    frames, framed = Counter(again), Counter(map(tuple, audited["recompiles"]))
    if frames != framed:
        yield f"recompiles: log {frames - framed}, audit {framed - frames}"
    if not breaks and not again and audited["findings"]:
        yield f"findings without a line in the log: {audited['findings']}"


def is_torch(file: str) -> bool:
    """True for PyTorch's and Python's files: there, the audit names the caller's line."""
    return "/site-packages/torch/" in file or "site-packages" not in file


def architectures(kind: str, everything: bool) -> list[str]:
    """Returns the architectures of a library to compare."""
    names: list[str] = library(kind).names()
    if everything or kind not in SAMPLE:
        return names
    return [name for name in SAMPLE[kind].split() if name in names]


def table(kinds: Iterable[str], results: dict[str, list[Comparison]]) -> Iterator[str]:
    """Yields the lines of a table of the libraries, as Markdown."""
    versions = installed()
    yield "| library | models | passes | breaks | recompiles | equal | different | skipped |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for kind in kinds:
        of_kind = [
            comparisons for name, comparisons in results.items() if name.startswith(f"{kind}/")
        ]
        passes = [comparison for comparisons in of_kind for comparison in comparisons]
        outcomes = Counter(comparison.outcome for comparison in passes)
        numbers = [
            *(len(of_kind), len(passes)),
            *(sum(p.breaks for p in passes), sum(p.recompiles for p in passes)),
            *(outcomes[outcome] for outcome in ("equal", "different", "skipped")),
        ]
        yield f"| {LIBRARIES[kind]} {versions[kind]} | {' | '.join(map(str, numbers))} |"


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.compile_checks.against_logs")
    parser.add_argument("--library", action="append", choices=LIBRARIES)
    parser.add_argument("--only", default="")
    parser.add_argument("--all", action="store_true", help="not only the models of SAMPLE")
    parser.add_argument("--every", type=int, default=1, help="only each N-th architecture")
    parser.add_argument("--passes", nargs="+", default=list(PASSES))
    options = parser.parse_args()
    kinds = options.library or list(installed())
    names = [
        f"{kind}/{name}"
        for kind in kinds
        for name in architectures(kind, options.all)
        if re.search(options.only, f"{kind}/{name}")
    ]
    results: dict[str, list[Comparison]] = {}
    for name in names[:: options.every]:
        results[name] = []
        for comparison in compared(name, options.passes):
            results[name].append(comparison)
            print(f"{name}, {comparison.run}: {comparison.outcome}: {comparison.text}", flush=True)
    print("", *table(kinds, results), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
