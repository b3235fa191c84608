"""`python -m dmask`: trains a small language model with dynamic masks and checks the results."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import dmask
from compile_checks import AuditReport, watch
from dmask.demo import report, text, training
from dmask.demo.model import LanguageModel
from dmask.demo.text import Corpus

MAX_GRAPHS = 1
"""All blocks share one graph in training and evaluation, without recompiles."""
LOSS_GATE = 0.8
"""The loss must fall below this fraction of the unigram entropy."""
MAX_BATCH_BYTES = 2**15
"""The largest batch, in bytes. The held-out text must fill one batch."""
PROMPT_LENGTH = 64
SAMPLE_LENGTH = 240


@dataclass(frozen=True)
class Options:
    """The command-line options."""

    steps: int
    batch_size: int
    context: int
    window_size: int
    backend: str
    device: torch.device
    output: Path
    seed: int


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo. Returns 1 if one of its checks failed, 0 otherwise."""
    start = time.monotonic()
    options = parse(argv)
    torch.manual_seed(options.seed)
    # A second thread gains little on a model this small, and costs a lot on a busy machine. With
    # one thread, sums are always computed in the same order, so the same seed gives the same
    # numbers.
    torch.set_num_threads(1)
    corpus = text.python_reference()
    model = LanguageModel(options.context, options.window_size).to(options.device)
    introduce(options, corpus, model)
    failures = [*check_training(options, corpus, model)]
    with torch.compiler.set_stance("force_eager"):  # each new shape would need a new graph
        failures += check_masks(options, corpus, model)
        show_sample(options, corpus, model)
    for failure in failures:
        print(f"\nFAILED: {failure}")
    if not failures:
        print("\nAll checks passed.")
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return 1 if failures else 0


def introduce(options: Options, corpus: Corpus, model: LanguageModel) -> None:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"dmask {dmask.__version__}, torch {torch.__version__}\n"
        f"text    the reference in CPython {platform.python_version()}, each paragraph once: "
        f"{len(corpus.train)} bytes to train on, {len(corpus.held_out)} held out\n"
        f"model   {parameters} parameters, context {options.context}; "
        f"each query attends to at most {options.window_size} keys",
        flush=True,
    )


# ------------------------------------------------------------------ the checks


def check_training(options: Options, corpus: Corpus, model: LanguageModel) -> Iterator[str]:
    """Trains the compiled model. Yields a message for each failed check of loss and compilation."""
    # Otherwise code compiled by an earlier call is reused, and the audit sees nothing.
    torch.compiler.reset()
    # All blocks share one graph, which compiles in half the time of the whole model.
    backend = choose_backend(options)
    for block in model.blocks:
        block.compile(fullgraph=True, backend=backend)
    sizes = (options.batch_size, options.context, options.device)
    with watch(max_graphs=MAX_GRAPHS) as watched:
        before = training.evaluate(model, corpus.held_out, *sizes)
        training.train(model, corpus.train, *sizes, steps=options.steps, seed=options.seed)
        after = training.evaluate(model, corpus.held_out, *sizes)
    entropy = text.unigram_entropy(corpus.held_out)
    print(
        f"loss    {before:.3f} bits per byte of held-out text before training, {after:.3f} after "
        f"{options.steps} steps; the text's unigram entropy is {entropy:.3f}"
    )
    show_audit(watched.report())
    # Not `>=`: a NaN loss must fail.
    if not after < LOSS_GATE * entropy:
        yield (
            f"the loss of {after:.3f} bits per byte is not below {LOSS_GATE * entropy:.3f}, "
            f"{LOSS_GATE:.0%} of the unigram entropy"
        )
    yield from map(str, watched.report().findings)


def choose_backend(options: Options) -> str:
    """Picks Inductor if it works on this machine, and prints the choice."""
    backend, why = options.backend, ""
    if backend == "auto":
        backend = "inductor"
        if options.device.type == "cpu" and training.cxx_compiler() is None:
            backend, why = "aot_eager", ": no C++ compiler found for Inductor; set CXX to name one"
    print(f"compile backend {backend}, fullgraph, on {options.device}{why}", flush=True)
    return backend


def show_audit(audit: AuditReport) -> None:
    print(
        f"audit   graphs compiled: {audit.graphs} of at most {MAX_GRAPHS}, "
        f"graph breaks: {len(audit.graph_breaks)}, recompiles: {len(audit.recompiles)}"
    )
    for recompile in audit.recompiles:
        print(f"        recompiled because {'; '.join(recompile.reasons)}")


def check_masks(options: Options, corpus: Corpus, model: LanguageModel) -> Iterator[str]:
    """Draws the trained masks and compares them with the inlined path. Yields failure messages."""
    batch = text.ordered_batches(corpus.held_out, options.batch_size, options.context)[0, :, :-1]
    scores = model.scores(batch.to(options.device))
    rows = report.compare(scores, options.window_size)
    entries, differing = sum(row.entries for row in rows), sum(row.differing for row in rows)
    print(
        f"parity  {sum(row.masks for row in rows)} masks, {entries} entries compared with topk and "
        f"scatter inlined: {differing} differ\n{report.table(rows)}"
    )
    masks = [report.made_mask(layer[:1], options.window_size)[0] for layer in scores]
    print(f"\nThe mask of layer {len(masks) - 1}, KV head 0: queries downwards, keys to the right")
    print(report.draw(masks[-1][0], shades=report.shades_for(sys.stdout.encoding)))
    picture = report.save_picture(masks, options.output)
    print(f"All of them: {picture}" if picture else "matplotlib is not installed: no PNG")
    if differing:
        yield f"{differing} of {entries} mask entries differ from the inlined path"


def show_sample(options: Options, corpus: Corpus, model: LanguageModel) -> None:
    prompt = corpus.held_out[:PROMPT_LENGTH].long().to(options.device)
    sampled = training.sample(model, prompt, SAMPLE_LENGTH, options.context, options.seed)
    print(f"\nThe model, after {report.readable(bytes(prompt.tolist()))!r}:")
    print(report.readable(sampled))


# ------------------------------------------------------------------ the command line


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m dmask",
        description="Trains a byte-level language model with dynamic-mask attention under "
        "torch.compile, on the reference text that CPython ships. Checks the loss, the graph "
        "breaks, and the masks against the code that dmask replaces. Exits with 1 if any check "
        "fails.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--steps", type=integer(0), default=240, help="training steps")
    add("--batch-size", type=integer(1, 256), default=8, help="sequences per step")
    add(
        "--context",
        type=integer(2, 2048),
        default=128,
        help="number of bytes the model can look back at",
    )
    add(
        "--window-size",
        type=integer(1),
        default=32,
        help="maximum number of keys that a query keeps",
    )
    add(
        "--backend",
        choices=("auto", "inductor", "aot_eager"),
        default="auto",
        help="torch.compile backend; auto picks inductor, or aot_eager without a C++ compiler",
    )
    add("--device", type=device, default="cpu", help="device to run on, such as cpu or cuda")
    add("--output", type=Path, default="out", help="folder for the picture; created if missing")
    add(
        "--seed",
        type=integer(0),
        default=0,
        help="random seed; results are reproducible on the CPU of one machine",
    )
    options = Options(**vars(parser.parse_args(argv)))
    if options.window_size >= options.context:
        parser.error(
            f"argument --window-size: must be less than --context {options.context}, "
            f"got {options.window_size}"
        )
    if options.batch_size * options.context > MAX_BATCH_BYTES:
        parser.error(
            f"argument --batch-size: batch size * context must be at most {MAX_BATCH_BYTES}, "
            f"got {options.batch_size} * {options.context}"
        )
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --output: {error}")
    return options


def integer(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """Returns an argparse type that accepts integers from `low` to `high`."""

    def convert(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            expected = f"from {low} to {high}" if high < 2**63 - 1 else f">= {low}"
            raise argparse.ArgumentTypeError(f"expected an integer {expected}, got {value!r}")
        return number

    return convert


def device(value: str) -> torch.device:
    """Parses a device and checks that it works."""
    try:
        torch.empty(1, device=value).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise argparse.ArgumentTypeError(f"cannot use {value!r}: {reason}") from None
    return torch.device(value)


if __name__ == "__main__":
    sys.exit(main())
